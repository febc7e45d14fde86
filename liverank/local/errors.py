"""What can be wrong with a broker of this machine."""

from __future__ import annotations

from ranker.contracts.errors import LiverankError


class BrokerError(LiverankError):
    """No broker: what is missing or went wrong, and what would be valid."""


class PortTakenError(BrokerError):
    """The broker ended since another process holds one of its ports."""
