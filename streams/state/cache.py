"""The users' rows in memory, above the store: decoded, bounded, with eviction of what was used longest ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LaterRow, RowError
from ranker.state.bounded import BoundedCache, row_bytes
from ranker.state.codec import assembled, decode_list, decode_row, encode_head, encode_list, list_key
from ranker.state.pseudonyms import RowNames
from ranker.state.row import EMPTY, CurrentList, UserRow
from streams.state.store import Key, StoredRow

_BYTES_KEPT = 128 << 20

#: Hears of a stored value that is none of a row: its key, its bytes, and what is wrong.
Damaged = Callable[[Key, bytes, RowError], None]
#: The lists that are stored of a user, by their keys; None for one that cannot be read.
StoredLists = Mapping[bytes, CurrentList | None]


class ChangedRow(Struct, frozen=True):
    """A row to be written, and the lists that are stored beside the head that it replaces."""

    row: UserRow
    stored: StoredLists
    name: bytes  # under which it is stored

    def values(self) -> dict[bytes, bytes | None]:
        """What is to be written, in order: tombstones of lists that left, lists that came, the head that knows of both.

        After a kill between two of them the head is the one before, and the inputs since come again. A list that the
        head knows of and that is not there is about to leave; one that it does not know of, or not yet, is about to
        come.
        """
        lists = {list_key(self.name, listed.request_id): listed for listed in self.row.current}
        values: dict[bytes, bytes | None] = {key: None for key in self.stored if key not in lists}
        for key, listed in lists.items():
            if self.stored.get(key) is not listed:
                values[key] = encode_list(listed)
        values[self.name] = encode_head(self.row)
        return values


class RowCache:
    """Decoded rows by partition and user: the lately used ones, and all whose newest version is not on disk yet."""

    def __init__(
        self,
        read: Callable[[int, bytes], StoredRow],
        most: int = _BYTES_KEPT,
        damaged: Damaged = lambda key, stored, why: None,
        names: RowNames | None = None,
    ) -> None:
        """
        Args:
            read: gives what is stored in a partition under a user's name.
            most: bytes of decoded rows in memory; those that wait for a checkpoint stay beyond it.
            damaged: hears of what is stored and is no row: its user starts from the empty one.
            names: under which rows are stored; None: under users' ids.
        """
        self._read = read
        self._names = names or RowNames()
        self._hashed: dict[Key, bytes] = {}  # names of the rows in memory, where they are no ids
        self._damaged = damaged
        self._lists: dict[Key, StoredLists] = {}  # of the rows in memory that have some
        self._changed: dict[Key, UserRow] = {}
        self._writing: dict[Key, UserRow] = {}
        self._rows: BoundedCache[Key, UserRow] = BoundedCache(most, row_bytes, self._unsaved, left=self._left)

    def get(self, key: Key) -> UserRow:
        """A user's row; the empty row where there is none.

        Raises:
            LaterRow: a stored row of a later release, which must not be written over.
        """
        row = self._rows.get(key)
        if row is None:
            row = self._decoded(key, self._read(key[0], self._name(key)))
            self._rows.put(key, row)
        return row

    def put(self, key: Key, row: UserRow) -> None:
        """A user's row after an input that changed it."""
        self._changed[key] = row
        self._rows.put(key, row)

    def take_changed(self) -> dict[Key, ChangedRow]:
        """The rows put since the last call, to be written. They stay in memory until `written`."""
        self._writing, self._changed = self._changed, {}
        taken = {key: ChangedRow(row, self._lists.get(key, {}), self._name(key)) for key, row in self._writing.items()}
        for key, changed in taken.items():
            self._stored(key, {list_key(changed.name, listed.request_id): listed for listed in changed.row.current})
        return taken

    def written(self) -> None:
        """What `take_changed` gave is on disk."""
        self._writing = {}

    def clear(self) -> None:
        """Partitions may have left: another worker may write these rows before they are read here again."""
        for rows in (self._lists, self._hashed, self._changed, self._writing):
            rows.clear()
        self._rows.clear()

    def _name(self, key: Key) -> bytes:
        """Under what a user's row is stored; hashed once for as long as the row is in memory."""
        if not self._names.hashed:
            return key[1]
        name = self._hashed.get(key)
        if name is None:
            name = self._hashed[key] = self._names.of(key[1])
        return name

    def _left(self, key: Key) -> None:
        self._stored(key, {})
        self._hashed.pop(key, None)

    def _stored(self, key: Key, lists: StoredLists) -> None:
        if lists:
            self._lists[key] = lists
        else:
            self._lists.pop(key, None)

    def _decoded(self, key: Key, stored: StoredRow) -> UserRow:
        head = EMPTY
        try:
            head = decode_row(stored.head or b"")
        except LaterRow:
            raise
        except RowError as why:
            self._damaged(key, stored.head or b"", why)
            head = replace(EMPTY, epoch=now_ms())  # after whatever was
        lists = {place: self._list(key, value) for place, value in stored.lists.items()}
        self._stored(key, lists)
        return assembled(head, {listed.request_id: listed for listed in lists.values() if listed is not None})

    def _list(self, key: Key, stored: bytes) -> CurrentList | None:
        try:
            return decode_list(stored)
        except LaterRow:
            raise
        except RowError as why:
            self._damaged(key, stored, why)
            return None

    def _unsaved(self, key: Key) -> bool:
        """What is not on disk yet must not be read from there."""
        return key in self._changed or key in self._writing
