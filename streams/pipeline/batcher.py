"""Micro-batches across users: whoever waits while the scorer works is scored next, together.

There is no timer: a batch leaves when the scorer is idle, or as soon as it is again. Under a light load that is one
user at once, under a heavy one a full batch. A user who waits already is not queued twice: the newer row replaces the
older, since its ranking covers both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Work = TypeVar("Work")


class Batcher(Generic[Work]):
    """Feeds one thread with batches. All methods belong to the event loop; `run` alone runs on the thread."""

    def __init__(
        self, run: Callable[[Sequence[Work]], None], size: int, failed: Callable[[BaseException], None]
    ) -> None:
        """
        Args:
            run: does the work of a batch, on the thread; one call at a time.
            size: most entries of a batch.
            failed: takes what `run` raised. The batch then counts as undone for good: `settled` never returns.
        """
        self._run = run
        self._size = size
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._waiting: dict[
            Hashable, tuple[int, Work]
        ] = {}  # in the order of the number given when it was first queued
        self._number = 0
        self._busy = False
        self._scheduled = False
        self._settling: list[tuple[int, asyncio.Future[None]]] = []
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Hashable, work: Work) -> None:
        """Queue work under a key. Where that key waits already, the newer work takes its place in the line."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._number += 1
        self._waiting[key] = (self._number if waiting is None else waiting[0], work)
        if len(self._waiting) >= 4 * self._size:
            self._room.clear()
        if not self._busy and not self._scheduled:
            # In the loop's next turn, so that what arrived together is scored together.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def discard(self, key: Hashable) -> None:
        """Forget the work that waits under a key."""
        if self._waiting.pop(key, None) is not None:
            self._make_room()
            self._tell()

    async def room(self) -> None:
        """Wait until there is room for more work."""
        await self._room.wait()

    @property
    def full(self) -> bool:
        """Whether more work should wait."""
        return not self._room.is_set()

    async def settled(self) -> None:
        """Wait until all that was queued before this call is done."""
        if not self._busy and not self._waiting:
            return
        future = asyncio.get_running_loop().create_future()
        self._settling.append((self._number, future))
        await future

    def close(self) -> None:
        """End the thread after the batch in work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or not self._waiting:
            return
        keys = [key for key, _ in zip(self._waiting, range(self._size), strict=False)]
        batch = [self._waiting.pop(key)[1] for key in keys]
        self._busy = True
        self._make_room()
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._thread, self._run, batch).add_done_callback(self._finish)

    def _finish(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if error is not None:
            self._failed(error)
            return
        self._busy = False
        self._tell()
        self._flush()

    def _make_room(self) -> None:
        if len(self._waiting) < 2 * self._size:
            self._room.set()

    def _tell(self) -> None:
        """Wake those for whom nothing is left to wait for."""
        if self._busy:
            return
        oldest = next(iter(self._waiting.values()))[0] if self._waiting else self._number + 1
        for number, future in self._settling:
            if number < oldest and not future.done():
                future.set_result(None)
        self._settling = [entry for entry in self._settling if not entry[1].done()]
