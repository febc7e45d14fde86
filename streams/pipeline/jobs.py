"""What the scorer's thread is asked to do."""

from __future__ import annotations

from msgspec import Struct

from ranker.contracts.inputs import Position
from ranker.state.row import UserRow


class RankList(Struct, frozen=True):
    """Rank one of a user's current lists."""

    user: bytes
    row: UserRow  # as `UserRow.of` gives it for the list
    at: Position  # of the newest input that the row knows of
    kind: str
    event_id: str | None = None
    value: bytes | None = None  # that input's bytes


class ForgetUser(Struct, frozen=True):
    """Drop everything that is kept of a user beside the row."""

    user: bytes


class WakeUp(Struct, frozen=True):
    """Nothing to rank: look at what waits beside rankings."""


Job = RankList | ForgetUser | WakeUp
