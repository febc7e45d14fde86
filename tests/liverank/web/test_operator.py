"""Where metrics pages are, and who may move versions."""

from __future__ import annotations

import pytest

from liverank.settings import Settings, changed
from liverank.web.operator import Operator, page_addresses
from ranker.contracts.errors import LiverankError


@pytest.mark.parametrize(
    ("given", "host", "port", "addresses"),
    [
        ("", "127.0.0.1", 9108, ["http://127.0.0.1:9108/metrics"]),
        ("", "0.0.0.0", 9108, ["http://127.0.0.1:9108/metrics"]),  # noqa: S104
        ("", "::1", 9108, ["http://[::1]:9108/metrics"]),
        ("", "127.0.0.1", 0, []),
        ("", "127.0.0.1", -1, []),
        ("a:1, b:2", "127.0.0.1", 9108, ["http://a:1/metrics", "http://b:2/metrics"]),
        ("https://a/m, http://b:2", "127.0.0.1", -1, ["https://a/m", "http://b:2/metrics"]),
    ],
)
def test_pages_are_named_or_those_of_this_installation(given: str, host: str, port: int, addresses: list[str]) -> None:
    """With or without a scheme and a path; a port that the system chose is known to nobody."""
    assert page_addresses(given, host, port) == addresses


def test_without_a_token_nobody_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with an empty one; and a short one is none."""
    settings = changed(Settings(), web_workers="127.0.0.1:1")
    monkeypatch.delenv("LIVERANK_WEB_OPERATOR_TOKEN", raising=False)
    assert not Operator(settings).knows("")
    monkeypatch.setenv("LIVERANK_WEB_OPERATOR_TOKEN", "a-token-of-an-operator")
    operator = Operator(settings)
    assert operator.knows("a-token-of-an-operator") and not operator.knows("") and not operator.knows("ümläut")
    monkeypatch.setenv("LIVERANK_WEB_OPERATOR_TOKEN", "brief")
    with pytest.raises(LiverankError, match="LIVERANK_WEB_OPERATOR_TOKEN has less than 16 letters"):
        Operator(settings)
