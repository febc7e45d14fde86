"""Who may ask a gateway, and how much."""

from __future__ import annotations

import pytest

from liverank.gateway.admission import ANYBODY, Admission, is_loopback, tokens_in
from ranker.contracts.errors import LiverankError

TOKENS = ["a-token-of-somebody", "a-token-of-another"]


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_per_token_and_a_debt_is_waited_for() -> None:
    """A question with more records than are left is taken; the next has to wait until they are paid for."""
    clock = Clock()
    admission = Admission(TOKENS, rate=10.0, clock=clock)
    assert admission.wait_s("token-1") == 0
    admission.charge("token-1", 30)
    assert admission.wait_s("token-1") == pytest.approx(2.0, abs=0.01)
    assert admission.wait_s("token-2") == 0
    clock.now = 2.1
    assert admission.wait_s("token-1") == 0
    clock.now = 1000.0
    admission.charge("token-1", 10)
    assert admission.wait_s("token-1") > 0, "what was not asked for is no more than a second's"


@pytest.mark.parametrize(
    ("given", "who"),
    [
        (f"Bearer {TOKENS[0]}", "token-1"), (f"bearer {TOKENS[1]}", "token-2"), (f"Basic {TOKENS[0]}", None),
        (TOKENS[0], None), ("Bearer ", None), ("", None), (None, None), (f"Bearer {TOKENS[0]} ", None),
    ],
)  # fmt: skip
def test_a_token_is_told_by_the_header(given: str | None, who: str | None) -> None:
    """The scheme is any case's, the token its own."""
    assert Admission(TOKENS, 1.0).who(given, "shop.example") == who


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8080", True), ("localhost", True), ("[::1]:8080", True), ("127.9.9.9", True),
        ("shop.example", False), ("localhost.shop.example:80", False), ("10.0.0.1", False), ("", False),
        ("[::1", False),
    ],
)  # fmt: skip
def test_without_tokens_the_host_is_this_machine(host: str, own: bool) -> None:
    """By an address or a name that nobody else can give it."""
    assert Admission([], 1.0).who(None, host) == (ANYBODY if own else None)


def test_hosts_that_others_reach() -> None:
    """All but loopback."""
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("gateway")  # noqa: S104


def test_tokens_are_long_enough_and_not_shown() -> None:
    """What is between commas."""
    assert tokens_in(f" {TOKENS[0]} ,{TOKENS[1]},") == TOKENS
    assert tokens_in("") == []
    for wrong in ("short", "with a space in the token", "ü" * 20):
        with pytest.raises(LiverankError, match="token 2 of LIVERANK_GATEWAY_TOKENS") as refused:
            tokens_in(f"{TOKENS[0]},{wrong}")
        assert wrong not in str(refused.value) and TOKENS[0] not in str(refused.value)
