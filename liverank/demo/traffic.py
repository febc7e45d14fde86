"""The demo's traffic: users send lists and clicks into Kafka, each awaits its ranking, and both are measured."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from liverank.client.messages import message_of
from liverank.demo.learning import LEARNED, Learning
from liverank.offline.replay import Awaited
from liverank.simulate.users import SimulatedUser, reciprocal_rank
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Interaction, Item, Ranking
from ranker.contracts.topics import DEAD_LETTERS, EXAMPLES, ITEM_VECTORS, RANKINGS
from ranker.mapping.topic_map import TopicMap

FOLLOWED = (RANKINGS, DEAD_LETTERS, ITEM_VECTORS)

_WARM_UP_EVENTS = 30
_RANKING_S = 30.0
_QUIET_S = 20.0  # item vectors that do not come for so long do not come any more
_RECENT_S = 5.0
_ranking_decoder = msgspec.json.Decoder(Ranking)


class Arrivals(Awaited):
    """The newest ranking of each user, and when it came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, float] = {}  # by `time.perf_counter`

    def put(self, ranking: Ranking) -> None:
        """Take a ranking in."""
        self.came[ranking.user_id] = time.perf_counter()
        super().put(ranking)


class Tally:
    """What was measured.

    `shown` and `liverank` hold a pair for each click: the reciprocal rank of the clicked film in the order of the
    recall stage, and in the newest ranking before the click, which covers all of that user's earlier events. Both count
    only the list's films that were not clicked before.
    """

    def __init__(self) -> None:
        self.lists = self.clicks = self.rankings = self.dead_letters = 0
        self.latencies_ms: list[float] = []
        self.shown: list[float] = []
        self.liverank: list[float] = []
        self.model_version: str | None = None
        self._recent: deque[float] = deque()

    def event(self, record: CandidateList | Interaction, latency_ms: float, ranking: Ranking) -> None:
        """An event was sent and its ranking came."""
        if isinstance(record, CandidateList):
            self.lists += 1
        else:
            self.clicks += 1
        self.latencies_ms.append(latency_ms)
        self.model_version = ranking.model
        self._recent.append(time.monotonic())

    def click(self, chosen: str, shown: Sequence[str], ranking: Ranking, clicked: Sequence[str]) -> None:
        """A click is about to be sent: how well did either order foresee it?"""
        self.shown.append(reciprocal_rank(chosen, shown, clicked))
        self.liverank.append(reciprocal_rank(chosen, (line.item_id for line in ranking.items), clicked))

    @property
    def events(self) -> int:
        """Lists and clicks."""
        return self.lists + self.clicks

    @property
    def events_a_second(self) -> float:
        """Over the last seconds."""
        since = time.monotonic() - _RECENT_S
        while self._recent and self._recent[0] < since:
            self._recent.popleft()
        return len(self._recent) / _RECENT_S

    def latency_ms(self) -> dict[str, float | None]:
        """From an event's hand-over to the producer to the arrival of the ranking that covers it."""
        if not self.latencies_ms:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}

    def mrr(self) -> dict[str, float | None]:
        """Mean reciprocal ranks of the same clicks."""
        pairs = {"shown": self.shown, "liverank": self.liverank}
        return {name: round(float(np.mean(ranks)), 4) if ranks else None for name, ranks in pairs.items()}

    def report(self) -> dict[str, Any]:
        """The figures."""
        return {
            "events": self.events,
            "lists": self.lists,
            "clicks": self.clicks,
            "rankings": self.rankings,
            "dead_letters": self.dead_letters,
            "latency_ms": self.latency_ms(),
            "mrr": self.mrr(),
            "model_version": self.model_version,
        }


class Traffic:
    """The connections of the demo, and what went over them. Belongs to one event loop."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        consumers: Sequence[AIOKafkaConsumer],
        tally: Tally,
        learning: Learning,
        topics: TopicMap | None = None,
    ) -> None:
        self._topics = topics or TopicMap()
        self.tally, self.learning = tally, learning
        self.arrivals = Arrivals()
        self.vectors = 0
        self._producer = producer
        self._followers = [asyncio.create_task(self._follow(consumer)) for consumer in consumers]
        self._offsets: dict[str, dict[str, int]] = {}
        self._measured: frozenset[str] = frozenset()

    async def send_items(self, items: Sequence[Item]) -> None:
        """Fill the catalogue."""
        sent = [await self._producer.send(*self._parts(item)) for item in items]
        await asyncio.gather(*sent)

    async def vectors_of(self, items: Sequence[Item], check: Callable[[], None]) -> None:
        """Wait until the worker has encoded the items' texts, or has no more to encode."""
        known, changed = -1, time.monotonic()
        while self.vectors < len(items) and time.monotonic() - changed < _QUIET_S:
            if self.vectors != known:
                known, changed = self.vectors, time.monotonic()
            check()
            await asyncio.sleep(0.1)

    async def warm_up(self, user: SimulatedUser) -> None:
        """Events that are not measured: the first ones meet code and connections that have never run."""
        for _ in range(_WARM_UP_EVENTS):
            await self._act(user, Tally())

    async def run(self, users: Sequence[SimulatedUser], rate: float, random: Random, stop: asyncio.Event) -> None:
        """Let the users act until `stop`, `rate` events a second in all."""
        self._measured = frozenset(user.user_id for user in users)
        await self._live_all(users, rate, random, stop, self.tally)

    async def rehearse(self, users: Sequence[SimulatedUser], rate: float, random: Random, stop: asyncio.Event) -> None:
        """The same, and nothing of it is measured."""
        await self._live_all(users, rate, random, stop, Tally())

    def check(self) -> None:
        """Nothing, while what comes back is received.

        Raises:
            KafkaError: why it no longer is.
        """
        for follower in self._followers:
            if follower.done():
                follower.result()

    async def close(self) -> None:
        """Receive no more."""
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    def took(self, message: Any) -> None:
        """A message came from one of the followed topics."""
        topic = self._topics.own(message.topic)
        if topic in LEARNED:
            self.learning.took(message)
        elif topic == ITEM_VECTORS:
            self.vectors += 1
        elif topic == DEAD_LETTERS:
            self.tally.dead_letters += 1
        else:
            ranking = _ranking_decoder.decode(message.value)
            self.arrivals.put(ranking)
            self.learning.ranked(ranking, now_ms())
            self.tally.rankings += ranking.user_id in self._measured

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        async for message in consumer:
            self.took(message)

    async def _live_all(
        self, users: Sequence[SimulatedUser], rate: float, random: Random, stop: asyncio.Event, tally: Tally
    ) -> None:
        pause = len(users) / rate
        await all_or_first_error([self._live(user, pause, random, stop, tally) for user in users])

    async def _live(self, user: SimulatedUser, pause: float, random: Random, stop: asyncio.Event, tally: Tally) -> None:
        """One user: an event about every `pause` seconds, by the clock rather than after the last one's ranking."""
        due = time.monotonic() + pause * random.random()
        while not await set_within(stop, due - time.monotonic()):
            await self._act(user, tally)
            due = max(due + pause * random.uniform(0.5, 1.5), time.monotonic())

    async def _act(self, user: SimulatedUser, tally: Tally) -> None:
        """Send the user's next record, and await the ranking that covers it and all before it."""
        clicked = tuple(user.clicked)
        record = user.next_record(now_ms())
        if isinstance(record, Interaction) and record.item_id is not None:
            ranking = self.arrivals.newest(user.user_id, user.request_id)
            assert ranking is not None, "awaited before"
            tally.click(record.item_id, user.shown, ranking, clicked)
        began = time.perf_counter()
        metadata = await self._producer.send_and_wait(*self._parts(record))
        offsets = self._offsets.setdefault(user.user_id, {})
        offsets[metadata.topic] = metadata.offset
        ranking = await self.arrivals.covering(user.user_id, user.request_id, offsets, _RANKING_S)
        tally.event(record, 1000 * (self.arrivals.came[user.user_id] - began), ranking)

    def _parts(self, record: CandidateList | Interaction | Item) -> tuple[str, bytes, bytes | None]:
        """Topic, value and key, in the order in which the producer takes them."""
        message = message_of(record)
        return self._topics.called(message.topic), message.value, message.key  # type: ignore[return-value]


@asynccontextmanager
async def connected(
    connection: dict[str, Any], topics: TopicMap, tally: Tally, learning: Learning
) -> AsyncIterator[Traffic]:
    """Traffic over a broker whose topics exist; follows what comes back from now on.

    Args:
        connection: aiokafka's connection arguments.
        topics: what they are called.
        tally: where what is measured goes.
        learning: takes what the trainer sends.

    Raises:
        LiverankError: the broker does not answer.
    """
    producer = AIOKafkaProducer(**connection, acks="all")
    # What was learned comes in large records: on a connection of their own no ranking waits behind them.
    consumers = {
        followed: AIOKafkaConsumer(**connection, group_id=None, auto_offset_reset="latest", fetch_max_wait_ms=20)
        for followed in (FOLLOWED, LEARNED)
    }
    try:
        await producer.start()
        for followed, consumer in consumers.items():
            await consumer.start()
            # The consumer knows a topic's partitions only once it was asked for them.
            found = {topic: await _partitions(producer, topic) for topic in map(topics.called, followed)}
            consumer.assign([TopicPartition(topic, number) for topic, numbers in found.items() for number in numbers])
            await consumer.seek_to_end()
        learned = consumers[LEARNED]
        places = [place for place in learned.assignment() if topics.own(place.topic) == EXAMPLES]
        learning.start({f"{place.topic}-{place.partition}": await learned.position(place) for place in places})
        traffic = Traffic(producer, list(consumers.values()), tally, learning, topics)
        try:
            yield traffic
        finally:
            await traffic.close()
    except KafkaError as error:
        raise LiverankError(f"the broker failed the demo: {error}") from error
    finally:
        for consumer in consumers.values():
            await consumer.stop()
        await producer.stop()


async def _partitions(producer: AIOKafkaProducer, topic: str) -> set[int]:
    partitions: set[int] = await producer.partitions_for(topic)
    return partitions


async def all_or_first_error(coroutines: Sequence[Any]) -> None:
    """Run all side by side; the first error ends the others and is raised as it is."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set, at the latest after so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), max(seconds, 0.0))
    except TimeoutError:
        return event.is_set()  # where no time is left, nobody looked
    return True
