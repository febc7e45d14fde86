"""More than fits into memory, by key: bytes in a temporary file, and a dictionary that holds what was used last."""

from __future__ import annotations

import sqlite3
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ranker.contracts.errors import LiverankError
from ranker.contracts.ids import hash_id

Value = TypeVar("Value")

HELD = 4096  # values of a dictionary that are held as they are, at least
_CACHE_KIB = 32 << 10
_PAGE_BYTES = 16 << 10  # several values of some kilobytes share one


class TemporaryFileError(LiverankError):
    """What lies on disk for the time of a run has no room there."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(f"a temporary file cannot be written ({problem}); set TMPDIR to a folder with more room")


class DiskTable:
    """Bytes by number, in a temporary file that has no name and ends with the table or the process, however that ends.

    It is SQLite's, which holds the pages used last in memory. `TMPDIR` says in which folder it lies.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        weakref.finalize(self, self._rows.close)
        for pragma in (f"page_size = {_PAGE_BYTES}", f"cache_size = -{_CACHE_KIB}", "journal_mode = OFF"):
            self._rows.execute(f"PRAGMA {pragma}")
        self._rows.execute("CREATE TABLE stored (key INTEGER PRIMARY KEY, value BLOB)")

    def put(self, pairs: Iterable[tuple[int, bytes]]) -> None:
        """Keep values, each in the place of the one that its key had; keys are signed, of 64 bits.

        Raises:
            TemporaryFileError: there is no room.
        """
        try:
            self._rows.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?)", pairs)
        except sqlite3.OperationalError as error:
            raise TemporaryFileError(error) from error

    def get(self, key: int) -> bytes | None:
        """The value of a key; None where there is none."""
        found = self._rows.execute("SELECT value FROM stored WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]


class SpillingDict(Generic[Value]):
    """Values by text. Those used last are held as they are, at most twice `held`; the others lie on disk."""

    def __init__(self, encode: Callable[[Value], bytes], decode: Callable[[bytes], Value], held: int = HELD) -> None:
        """
        Args:
            encode: a value as bytes.
            decode: its inverse.
            held: values that are held as they are, at least.
        """
        self._encode, self._decode, self._least = encode, decode, held
        self._held: OrderedDict[str, Value] = OrderedDict()  # used last at the end
        self._rest: DiskTable | None = None

    def get(self, key: str) -> Value | None:
        """The value of a key; None where there is none."""
        value = self._held.get(key)
        if value is not None:
            self._held.move_to_end(key)
        elif self._rest is not None and (stored := self._rest.get(hash_id(key))) is not None:
            value = self._decode(stored)
            self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        """Keep a value in the place of the one that its key had.

        Raises:
            TemporaryFileError: there is no room.
        """
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > 2 * self._least:
            self._rest = self._rest or DiskTable()
            oldest = [self._held.popitem(last=False) for _ in range(self._least)]
            self._rest.put((hash_id(name), self._encode(old)) for name, old in oldest)
