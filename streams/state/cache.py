"""The users' rows in memory, above the store: decoded, bounded, with eviction of what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ranker.contracts.errors import LaterRow, RowError
from ranker.state.codec import decode_row
from ranker.state.row import EMPTY, UserRow
from streams.state.store import Key

_ROWS_KEPT = 20_000

#: Hears of a stored row that is none: its key, its bytes, and what is wrong.
Damaged = Callable[[Key, bytes, RowError], None]


class RowCache:
    """Decoded rows by partition and user: the lately used ones, and all whose newest version is not on disk yet."""

    def __init__(
        self,
        read: Callable[[int, bytes], bytes | None],
        kept: int = _ROWS_KEPT,
        damaged: Damaged = lambda key, stored, why: None,
    ) -> None:
        """
        Args:
            read: gives the stored row of a partition's user.
            kept: decoded rows in memory, beside those that wait for a checkpoint.
            damaged: hears of what is stored and is no row: its user starts from the empty one.
        """
        self._read = read
        self._kept = kept
        self._damaged = damaged
        self._rows: OrderedDict[Key, UserRow] = OrderedDict()
        self._changed: dict[Key, UserRow] = {}
        self._writing: dict[Key, UserRow] = {}

    def get(self, key: Key) -> UserRow:
        """A user's row; the empty row where there is none.

        Raises:
            LaterRow: a stored row of a later release, which must not be written over.
        """
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row
        row = self._rows[key] = self._decoded(key, self._read(*key) or b"")
        self._evict()
        return row

    def put(self, key: Key, row: UserRow) -> None:
        """A user's row after an input that changed it."""
        self._rows[key] = self._changed[key] = row

    def take_changed(self) -> dict[Key, UserRow]:
        """The rows put since the last call. They stay in memory until `written`."""
        self._writing, self._changed = self._changed, {}
        return self._writing

    def written(self) -> None:
        """What `take_changed` gave is on disk."""
        self._writing = {}

    def clear(self) -> None:
        """Partitions may have left: another worker may write these rows before they are read here again."""
        for rows in (self._rows, self._changed, self._writing):
            rows.clear()

    def _decoded(self, key: Key, stored: bytes) -> UserRow:
        try:
            return decode_row(stored)
        except LaterRow:
            raise
        except RowError as why:
            self._damaged(key, stored, why)
            return EMPTY

    def _evict(self) -> None:
        """Drop the row used longest ago. One that is not on disk yet counts as used now."""
        if len(self._rows) <= self._kept:
            return
        oldest = next(iter(self._rows))
        if oldest in self._changed or oldest in self._writing:
            self._rows.move_to_end(oldest)
        else:
            del self._rows[oldest]
