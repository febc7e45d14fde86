"""Rows of the users who were ranked last: what a new model warms up with."""

from __future__ import annotations

from ranker.state.row import UserRow

_KEPT = 512


class RecentRows:
    """The newest row of each of the users ranked last. One thread writes, any may read."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._rows: dict[str, UserRow] = {}

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._rows

    def put(self, user_id: str, row: UserRow) -> None:
        """A user was ranked."""
        self._rows.pop(user_id, None)
        self._rows[user_id] = row
        if len(self._rows) > self._kept:
            self.forget(next(iter(self._rows)))

    def forget(self, user_id: str) -> None:
        """Drop a user."""
        self._rows.pop(user_id, None)

    def newest(self, count: int) -> list[tuple[str, UserRow]]:
        """The rows of the users ranked last, the last one first."""
        return list(self._rows.items())[: -count - 1 : -1]  # one copy in C, so that no write comes between
