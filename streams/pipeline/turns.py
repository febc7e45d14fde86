"""Work of many users that waits for one thread, taken user by user in turn: who brings much of it waits for himself."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Piece = TypeVar("Piece")


class Turns(Generic[Piece]):
    """First in, first out for each user; between users one piece each. Any thread may add, one takes."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[bytes, deque[tuple[int, Piece]]] = OrderedDict()
        self._lock = threading.Lock()
        self._count = self._number = 0
        self._taken: int | None = None  # the number of the piece in work

    def __len__(self) -> int:
        return self._count

    @property
    def number(self) -> int:
        """Of the piece that was added last; they are numbered in the order in which they came."""
        return self._number

    def add(self, user: bytes, work: Piece) -> None:
        """Queue a piece of a user's."""
        with self._lock:
            self._number += 1
            self._count += 1
            self._waiting.setdefault(user, deque()).append((self._number, work))

    def take(self) -> Piece | None:
        """The next piece; None where there is none. The one before is done."""
        with self._lock:
            self._taken = None
            if not self._waiting:
                return None
            user, pieces = next(iter(self._waiting.items()))
            self._taken, work = pieces.popleft()
            self._count -= 1
            if pieces:
                self._waiting.move_to_end(user)
            else:
                del self._waiting[user]
            return work

    def done(self) -> None:
        """The piece taken last is done."""
        self._taken = None

    def holds(self, number: int) -> bool:
        """Whether a piece up to this number waits, or is in work."""
        with self._lock:
            taken = self._taken
            if taken is not None and taken <= number:
                return True
            return any(pieces[0][0] <= number for pieces in self._waiting.values())
