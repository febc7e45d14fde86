"""Fetches records on a thread of its own, ahead of who takes them, and knows how far each partition was read.

Only that thread has to do with librdkafka, so between a seek and the records after it there is no other reader. What it
had in hand of a partition that was sought meanwhile is dropped. Where too much of a partition waits to be taken,
librdkafka lets go of it, and reads on from there when half of that is gone: others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from confluent_kafka import Message
from msgspec import Struct, field

from streams.kafka.consuming.assigned import AssignedConsumer, FetchError
from streams.kafka.progress import Place
from streams.settings import BrokerSettings

#: Of a partition's records at most about so many wait to be taken, and bytes of them.
_MOST_WAITING, _MOST_BYTES = 4000, 4 << 20
_LOOK_S = 0.1  # for how long the thread may not see what it is asked for
_IDLE_S = 1.0  # between two looks at librdkafka's log while nothing is read
_ENDS_EVERY_S = 1.0
_CLOSE_S = 2.0


class FetchedRecord(Struct, frozen=True, gc=False):
    """A record of a topic. `timestamp` is in milliseconds since the epoch, negative where there is none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class _Fetching(Struct):
    """How far a partition is read."""

    place: Place
    position: int  # what was taken ends here
    read_to: int  # what was fetched ends here
    stable: int = -1  # where the partition ended for who reads what is committed, when that was reached last
    high: int = -1  # where it ended in all when that was asked last; below 0 where it is not known
    size: int = 0  # bytes of what waits
    sought: bool = True  # to be assigned at `read_to`
    held: bool = False  # enough of it waits
    waiting: list[FetchedRecord] = field(default_factory=list)

    def add(self, message: Message) -> bool:
        """A record came; whether that is enough of them."""
        topic, partition = self.place
        offset, key, value = message.offset(), message.key(), message.value()
        self.waiting.append(FetchedRecord(topic, partition, offset, message.timestamp()[1], key, value))
        self.read_to = offset + 1
        self.size += len(message)
        self.held = len(self.waiting) >= _MOST_WAITING or self.size >= _MOST_BYTES
        return self.held

    def take(self, most: int) -> list[FetchedRecord]:
        """At most so many of the records that wait."""
        part, rest = self.waiting[:most], self.waiting[most:]
        self.waiting, self.position = rest, part[-1].offset + 1
        self.size = self.size * len(rest) // (len(part) + len(rest))
        if self.held and len(rest) <= _MOST_WAITING // 2 and self.size <= _MOST_BYTES // 2:
            self.held, self.sought = False, True
        return part


class RecordFetcher:
    """Reads partitions from where it is told: each record of one comes once, in order, from its last `seek` on.

    Belongs to an event loop; the thread is its own. Places are given back as they were given.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        """
        Args:
            settings: where the broker is.
        """
        self._settings = settings
        self._changed = threading.Condition()  # guards all that follows
        self._partitions: dict[Place, _Fetching] = {}
        self._filled: dict[Place, None] = {}  # of which records wait, in the order in which they came
        self._sought: set[Place] = set()  # to be assigned
        self._left: set[Place] = set()  # to be unassigned
        self._renew = self._closing = False
        self._error: FetchError | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._woken = False
        self._thread: threading.Thread | None = None
        # What follows is the thread's.
        self._client: AssignedConsumer | None = None
        self._endless: set[Place] = set()  # of which nothing came yet
        self._ends_due = 0.0  # by the monotonic clock

    def seek(self, places: Mapping[Any, int]) -> None:
        """Read these partitions, each from an offset on; what was fetched of them and not taken is thrown away."""
        with self._changed:
            for place, offset in places.items():
                self._forget(place)
                self._partitions[place] = _Fetching(place, offset, offset)
                self._sought.add(place)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="fetching", daemon=True)
                self._thread.start()
            self._changed.notify()

    def keep(self, places: Iterable[Place]) -> None:
        """Read no other partitions than these any more."""
        with self._changed:
            for place in self._partitions.keys() - set(places):
                self._forget(place)
            self._changed.notify()

    def renew(self) -> None:
        """Read on where the partitions stand, by a client that knows nothing of what their topics were before."""
        with self._changed:
            self._renew = True
            self._changed.notify()

    def position(self, place: Place) -> int | None:
        """From where on the records cover their partition that are taken next; None where it is not read.

        Where none wait to be taken, offsets that hold no record are passed already.
        """
        with self._changed:
            found = self._partitions.get(place)
            if found is None:
                return None
            return found.position if found.waiting else found.read_to

    def ends(self, place: Place) -> tuple[int, int] | None:
        """Where a partition ended a second ago: for who reads what is committed, and in all; None if that is not known.

        They differ while a transaction is open. Before the first of them has been reached, the other stands for it.
        """
        with self._changed:
            found = self._partitions.get(place)
            if found is None or found.high < 0:
                return None
            high = max(found.high, found.read_to)
            return (found.stable if found.stable == found.read_to else high), high

    async def take(self, places: Collection[Place], timeout_s: float, most: int) -> dict[Any, list[FetchedRecord]]:
        """The next records of these partitions, at most so many; none where none came in time, or `wake` was.

        Raises:
            FetchError: there are records that cannot be read.
        """
        loop, until = asyncio.get_running_loop(), monotonic() + timeout_s
        while True:
            with self._changed:
                if self._error is not None:
                    raise self._error
                found = self._next(places, most)
                woken, self._woken = self._woken, False
                left_s = until - monotonic()
                if found or woken or left_s <= 0:
                    return found
                came = loop.create_future()
                self._waiter = loop, came
            timer = loop.call_later(left_s, _set, came)
            try:
                await came
            finally:
                timer.cancel()
                self._waiter = None

    def wake(self) -> None:
        """Have `take` return, now or when it is called next."""
        with self._changed:
            self._woken = True
            self._arrived()

    def fail(self, error: Exception) -> None:
        """Have `take` raise from now on. Any thread may call it; the first error counts."""
        with self._changed:
            self._error = self._error or (error if isinstance(error, FetchError) else FetchError(str(error)))
            self._arrived()

    async def close(self) -> None:
        """End the thread; one that librdkafka does not let go of is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _CLOSE_S)

    def _forget(self, place: Place) -> None:
        if self._partitions.pop(place, None) is not None:
            self._filled.pop(place, None)
            self._left.add(place)

    def _arrived(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with suppress(RuntimeError):  # its loop has ended
                waiter[0].call_soon_threadsafe(_set, waiter[1])

    def _next(self, places: Collection[Place], most: int) -> dict[Any, list[FetchedRecord]]:
        found: dict[Any, list[FetchedRecord]] = {}
        for place in [place for place in self._filled if place in places]:
            if most <= 0:
                break
            partition = self._partitions[place]
            found[partition.place] = records = partition.take(most)
            most -= len(records)
            del self._filled[place]
            if partition.waiting:
                self._filled[place] = None  # behind the others
            if partition.sought:
                self._sought.add(place)
                self._changed.notify()
        return found

    def _run(self) -> None:
        try:
            while self._told():
                if self._client is None:
                    continue
                messages = self._client.messages(_LOOK_S)
                ends = self._ends_now(self._client, messages)
                if messages or ends:
                    with self._changed:
                        for place, high in ends.items():
                            if (partition := self._partitions.get(place)) is not None and not partition.sought:
                                partition.high = high
                        if sum(self._took(message) for message in messages):
                            self._arrived()
        except Exception as error:
            self.fail(error)
        finally:
            self._end_client()

    def _told(self) -> bool:
        """Have librdkafka read what is asked for; whether to go on. Waits a while where nothing is to be read."""
        with self._changed:
            if not (self._partitions or self._left or self._closing):
                self._changed.wait(_IDLE_S)
            closing, renew, self._renew = self._closing, self._renew, False
            left, self._left = self._left, set()
            if renew:
                self._sought.update(place for place, partition in self._partitions.items() if not partition.held)
            sought = [self._partitions[place] for place in self._sought if place in self._partitions]
            self._sought.clear()
            begun = [(partition.place, partition.read_to) for partition in sought]
            for partition in sought:
                partition.sought = False
        if closing:
            return False
        if renew:
            self._end_client()
        if begun and self._client is None:
            self._client = AssignedConsumer(self._settings)
        if self._client is not None:
            self._client.unassign(left)
            self._client.assign(begun)
            self._endless.update(place for place, _ in begun)
        return True

    def _ends_now(self, client: AssignedConsumer, messages: list[Message]) -> dict[Place, int]:
        """Where partitions end: once a second of all, and of one when its first message came.

        Before that, librdkafka may say where it ended long ago. Each question lets go of the interpreter's lock, and
        an event loop that asked would wait for it.
        """
        asked = self._endless.intersection((message.topic(), message.partition()) for message in messages)
        self._endless -= asked
        if monotonic() >= self._ends_due:
            self._ends_due, asked = monotonic() + _ENDS_EVERY_S, client.assigned - self._endless
        return {place: high for place in asked if (high := client.high(place)) is not None}

    def _took(self, message: Message) -> bool:
        """A message came; whether it is a record that somebody may wait for."""
        place = message.topic(), message.partition()
        partition = self._partitions.get(place)
        if partition is None or partition.sought or partition.held:
            return False
        if message.error() is None:
            self._filled[place] = None
            if partition.add(message):
                self._left.add(place)
            return True
        partition.stable = message.offset()
        partition.read_to = max(partition.read_to, partition.stable)
        return False

    def _end_client(self) -> None:
        with self._changed:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _set(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)
