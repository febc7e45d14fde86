"""A steady load from one process on one clock: inputs at a rate, and every ranking as it comes.

Nobody waits for a ranking before the next input is sent, so a worker that falls behind shows as what it is. librdkafka
sends from threads of its own; rankings are received and inputs paced on one uvloop.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import Any, TypeVar

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from liverank.bench.models import past_views
from liverank.bench.system import BenchSystem
from liverank.bench.tasks import beside
from liverank.client.messages import message_of
from liverank.measure.deliveries import Arrival, SentInput, covered_at
from liverank.simulate.users import SimulatedUser
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Interaction
from ranker.contracts.topics import RANKINGS
from streams.kafka import connection
from streams.kafka.admin import topic_layouts

LoadInput = CandidateList | Interaction
#: Gives the next input, for the time in milliseconds since the epoch.
InputSource = Callable[[int], LoadInput]
#: Takes one of aiokafka's records.
TakeRecord = Callable[[Any], None]

_Result = TypeVar("_Result")

_WATCH_S, _POLL_S, _LOOK_S = 0.2, 0.005, 0.05
_MOST_UNDER_WAY = 5000  # inputs that the broker has not confirmed
_PREPARED_S = 120.0


class _Received(Struct):
    """What is read of a ranking; the list itself is passed over, for decoding it would take longer than all else."""

    ranking_id: str
    user_id: str
    revision: int
    applied: dict[str, int]
    model: str
    request_id: str
    delta: int = 0


_decode = msgspec.json.Decoder(_Received).decode


class Load:
    """What was sent and what came. Belongs to one event loop."""

    def __init__(self, bench: BenchSystem) -> None:
        self.sent: list[SentInput] = []
        self.arrivals: list[Arrival] = []
        self.late: list[float] = []  # seconds by which inputs were handed over after their time
        self.first_of: dict[str, float] = {}  # version -> when its first ranking came
        self.on_ranking: Callable[[float, str, int], None] = lambda at, model, delta: None
        self._bench, self._producer, self._called = bench, bench.producer, bench.settings.topics.called
        self._applied: dict[tuple[str, str], int] = {}  # (user, topic) -> the highest offset that a ranking knew of
        self._came = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def send(self, record: LoadInput) -> None:
        """Hand an input to the producer."""
        topic, key, value = message_of(record)
        entry = SentInput(record.user_id, self._called(topic), time.perf_counter())
        self.sent.append(entry)
        self._producer.produce(entry.topic, value, key, on_delivery=partial(_delivered, entry))
        self._producer.poll(0)

    def send_unnoted(self, record: LoadInput) -> None:
        """Hand over an input whose ranking nobody waits for."""
        topic, key, value = message_of(record)
        self._producer.produce(self._called(topic), value, key)

    async def room(self, most: int = _MOST_UNDER_WAY) -> None:
        """Wait until the broker has confirmed all records but so many."""
        self._producer.poll(0)
        while len(self._producer) > most:
            await asyncio.sleep(_POLL_S)
            self._producer.poll(0)

    @asynccontextmanager
    async def running(self, rate: float, source: InputSource, random: Random) -> AsyncIterator[None]:
        """Send inputs for as long as the context lasts, by the clock, with pauses between half and one and a half of
        the mean.

        Args:
            rate: inputs a second.
            source: gives them.
            random: draws the pauses.
        """
        stop = asyncio.Event()
        # No collection of this process's own garbage falls into what is measured; what is left lying is little.
        gc.collect()
        gc.disable()
        self._running = asyncio.create_task(self._run(rate, source, random, stop))
        try:
            yield
        finally:
            gc.enable()
            stop.set()
            await self._running

    async def until(self, holds: Callable[[], bool], deadline_s: float) -> bool:
        """Wait until something holds, or the deadline; it is asked for again after each ranking."""
        try:
            async with asyncio.timeout(deadline_s):
                while not holds():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return holds()
        return True

    async def covered(self, deadline_s: float) -> list[float | None]:
        """When the ranking came that covers each input sent, by `time.perf_counter`; waits for those under way.

        None is left where none came before the deadline.
        """
        await self.room(0)
        open_ones, deadline = list(self.sent), time.perf_counter() + deadline_s
        while open_ones and time.perf_counter() < deadline:
            open_ones = [event for event in open_ones if not self._is_covered(event)]
            await asyncio.sleep(_LOOK_S)
        return covered_at(self.sent, self.arrivals)

    def _is_covered(self, event: SentInput) -> bool:
        """Whether some ranking that came knows of an event."""
        return event.offset is not None and self._applied.get((event.user_id, event.topic), -1) >= event.offset

    def took(self, message: Any) -> None:
        """A ranking came. Those of users of an earlier benchmark on the same broker are none of ours."""
        at = time.perf_counter()
        found = _decode(message.value)
        if not found.user_id.startswith(self._bench.settings.broker.app):
            return
        for topic, offset in found.applied.items():
            name = found.user_id, topic
            self._applied[name] = max(offset, self._applied.get(name, -1))
        self.arrivals.append(
            Arrival(at, found.user_id, found.revision, found.ranking_id, found.applied, found.model, found.request_id)
        )
        self.first_of.setdefault(found.model, at)
        self.on_ranking(time.time(), found.model, found.delta)
        self._came.set()

    async def watch(self) -> None:
        """An error as soon as a process ended, rather than when a ranking is overdue."""
        while True:
            self._bench.check()
            if self._running is not None and self._running.done():
                self._running.result()
            self._producer.poll(0)
            await asyncio.sleep(_WATCH_S)

    async def _run(self, rate: float, source: InputSource, random: Random, stop: asyncio.Event) -> None:
        due = time.perf_counter()
        while not stop.is_set():
            record = source(now_ms())
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.late.append(time.perf_counter() - due)
            self.send(record)
            due += random.uniform(0.5, 1.5) / rate

    def late_ms(self) -> float:
        """99th percentile of how late inputs were handed over, in milliseconds: the load's own noise."""
        return round(1000 * float(np.percentile(self.late, 99)), 3)


def _delivered(entry: SentInput, error: Any, message: Any) -> None:
    if error is None:
        entry.offset = message.offset()


async def prepare(bench: BenchSystem, load: Load, users: list[SimulatedUser], events: int) -> None:
    """So many events of the past, then a list for every user; until every list is ranked and all of the past is known.

    Raises:
        LiverankError: not in time.
    """
    with bench.console.status(f"{len(users)} users with {events} events each, and their lists"):
        for user in users:
            *earlier, last = past_views(user.user_id, events, bench.items, now_ms())
            for event in earlier:
                load.send_unnoted(event)
            load.send(last)
            await load.room()
        for user in users:
            load.send(user.next_record(now_ms()))
            await load.room()
        if None in await load.covered(_PREPARED_S):
            raise bench.failure(f"the users' lists are not ranked after {_PREPARED_S:.0f} s")


async def attended(
    bench: BenchSystem, load: Load, main: Coroutine[Any, Any, _Result], handlers: Mapping[str, TakeRecord] | None = None
) -> _Result:
    """Run a benchmark's own coroutine while rankings, and what other topics bring, are received from the beginning.

    Args:
        bench: what runs.
        load: takes the rankings.
        main: gives the result.
        handlers: our topic -> takes each of its records.

    Raises:
        LiverankError: a process ended, or the broker does not answer any more.
    """
    own = bench.settings.topics.own
    received: list[Mapping[str, TakeRecord]] = [{RANKINGS: load.took}, *([handlers] if handlers else [])]
    try:
        async with AsyncExitStack() as stack:
            followers = [_follow(await stack.enter_async_context(_consumer(bench, one)), one, own) for one in received]
            return await beside(main, load.watch(), *followers)
    except KafkaError as error:
        raise LiverankError(f"the broker failed the benchmark: {error}") from error


@asynccontextmanager
async def _consumer(bench: BenchSystem, names: Iterable[str]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(bench.settings.broker), group_id=None, auto_offset_reset="earliest",
        max_partition_fetch_bytes=connection.MAX_MESSAGE_BYTES,
    )  # fmt: skip
    try:
        await consumer.start()
        known = {topic.own: topic for topic in topic_layouts(bench.settings.broker)}
        topics = [known[name] for name in names]
        consumer.assign([TopicPartition(one.name, number) for one in topics for number in range(one.partitions)])
        yield consumer
    finally:
        await consumer.stop()


async def _follow(consumer: AIOKafkaConsumer, handlers: Mapping[str, TakeRecord], own: Callable[[str], str]) -> None:
    while True:
        fetched = await consumer.getmany(timeout_ms=1000)
        for place, messages in fetched.items():
            for message in messages:
                handlers[own(place.topic)](message)
