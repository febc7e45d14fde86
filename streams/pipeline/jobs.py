"""What the scorer's thread is asked to do."""

from __future__ import annotations

from msgspec import Struct

from ranker.contracts.inputs import Position
from ranker.state.row import UserRow


class RankUser(Struct, frozen=True):
    """Rank a user's current list."""

    user: bytes
    row: UserRow
    at: Position  # of the newest input that the row knows of
    kind: str
    event_id: str | None = None
    value: bytes | None = None  # that input's bytes


class ForgetUser(Struct, frozen=True):
    """Drop everything that is kept of a user beside the row."""

    user: bytes


class WakeUp(Struct, frozen=True):
    """Nothing to rank: look at what waits beside rankings."""


Job = RankUser | ForgetUser | WakeUp
