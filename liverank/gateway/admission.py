"""Who may ask a gateway, and how much: tokens, hosts, and a rate for each."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from time import monotonic

from ranker.contracts.errors import LiverankError

#: Letters of a token at least: what is shorter can be guessed.
SHORTEST_TOKEN = 16
#: Who asks a gateway that has no tokens, all of them together.
ANYBODY = "anybody"
_SCHEME = "bearer "


def tokens_in(given: str, variable: str = "LIVERANK_GATEWAY_TOKENS") -> list[str]:
    """The tokens of a variable of the environment.

    Args:
        given: what it holds.
        variable: its name, for messages.

    Raises:
        LiverankError: one that is no token; it is not shown.
    """
    tokens = [token.strip() for token in given.split(",") if token.strip()]
    for number, token in enumerate(tokens, 1):
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise LiverankError(
                f"token {number} of {variable} is none; each has at least {SHORTEST_TOKEN} letters and digits, without "
                "spaces, and a comma stands between two"
            )
    return tokens


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Admission:
    """Tells who asks, in constant time, and counts what each asks for."""

    def __init__(self, tokens: list[str], rate: float, clock: Callable[[], float] = monotonic) -> None:
        """
        Args:
            tokens: of applications; none admits everybody, from this machine.
            rate: records and questions a second of one of them; what was not asked for in the last second is gone.
            clock: seconds.
        """
        self._digests = [_digest(token) for token in tokens]
        self._rate, self._clock = rate, clock
        self._left: dict[str, tuple[float, float]] = {}  # who -> what is left, and as of when

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a token."""
        return not self._digests

    def who(self, authorization: str | None, host: str) -> str | None:
        """Which of those who may ask this is, by a name that says nothing of the token; None where it is nobody.

        Args:
            authorization: the request's header.
            host: the request's; without tokens it must be this machine's own, or any page in a browser could ask by a
                name of its own that leads here.
        """
        if self.is_open:
            return ANYBODY if is_loopback(_name(host)) else None
        given = authorization or ""
        digest = _digest(given[len(_SCHEME) :] if given.lower().startswith(_SCHEME) else "")
        same = [hmac.compare_digest(digest, known) for known in self._digests]  # all of them, whichever it is
        return f"token-{same.index(True) + 1}" if True in same else None

    def wait_s(self, who: str) -> float:
        """Seconds until this one may ask again; 0 where it may."""
        left = self._now(who)
        return 0.0 if left > 0 else (1e-3 - left) / self._rate

    def charge(self, who: str, count: int) -> None:
        """So much was asked for. More than is left is a debt: the next question waits for it."""
        self._left[who] = (self._now(who) - count, self._clock())

    def _now(self, who: str) -> float:
        most, now = max(self._rate, 1.0), self._clock()
        left, then = self._left.get(who, (most, now))
        return min(most, left + (now - then) * self._rate)


def _digest(token: str) -> bytes:
    """Of equal length whatever the token's, so that comparing tells nothing of it."""
    return hashlib.sha256(token.encode()).digest()


def _name(host: str) -> str:
    """A Host header without the port."""
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
