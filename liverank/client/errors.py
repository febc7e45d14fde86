"""What a client cannot do, and whether it is worth trying again."""

from __future__ import annotations

from ranker.contracts.errors import LiverankError


class Unavailable(LiverankError):
    """The brokers or the gateway do not take it now: some of it may have arrived, and the same may be sent again."""


class Refused(LiverankError):
    """The brokers or the gateway do not take it at all: a right, a topic or a token is missing."""
