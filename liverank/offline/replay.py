"""A log into Kafka, as its application would have sent it: every list is ranked before its click is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from msgspec import Struct

from liverank.client.messages import Message, message_of, refuse_mapped
from liverank.client.newest import covers
from liverank.offline.messages import read_messages
from online_learning.data.dataset import LogRecord
from online_learning.evaluation.lists import MetricFigures, rank_of, summarise_ranks
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Interaction, Item, Ranking, User
from ranker.contracts.topics import RANKINGS
from ranker.mapping.topic_map import TopicMap

#: More than a user can have at once: see `streams.settings.WorkerSettings.lists`.
_LISTS_KEPT = 9
_ranking_decoder = msgspec.json.Decoder(Ranking)


class ReplayReport(Struct, frozen=True, kw_only=True):
    """What a replay sent and what came back."""

    sent: int
    lists: int
    ranked_before_click: int
    seconds: float
    metrics: MetricFigures


class Awaited:
    """The newest rankings of each user's lists, and who waits for which."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[str, Ranking]] = {}  # by user and request, the lists ranked last
        self._changed: dict[str, asyncio.Event] = {}

    def put(self, ranking: Ranking) -> None:
        """Take a ranking in: of several of a list the highest (epoch, revision) holds."""
        lists = self._newest.setdefault(ranking.user_id, {})
        known = lists.pop(ranking.request_id, None)
        older = known is not None and (ranking.epoch, ranking.revision) < (known.epoch, known.revision)
        lists[ranking.request_id] = known if known is not None and older else ranking
        if len(lists) > _LISTS_KEPT:
            del lists[next(iter(lists))]
        if (event := self._changed.pop(ranking.user_id, None)) is not None:
            event.set()

    def newest(self, user_id: str, request_id: str) -> Ranking | None:
        """The newest ranking of a list; None where none came."""
        return self._newest.get(user_id, {}).get(request_id)

    async def covering(self, user_id: str, request_id: str, offsets: dict[str, int], timeout_s: float) -> Ranking:
        """The first ranking of this list that knows of all these offsets.

        Raises:
            LiverankError: none came in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    ranking = self.newest(user_id, request_id)
                    if ranking is not None and covers(ranking.applied, offsets):
                        return ranking
                    await self._changed.setdefault(user_id, asyncio.Event()).wait()
        except TimeoutError:
            raise LiverankError(
                f"no ranking of list {request_id} of user {user_id} came in {timeout_s:.0f} s; is a worker running, "
                "and does `liverank topics check` pass?"
            ) from None


class Replayer:
    """Sends records in order, users side by side, and keeps what the rankings said before each click."""

    def __init__(self, producer: AIOKafkaProducer, awaited: Awaited, topics: TopicMap, timeout_s: float = 60.0) -> None:
        self.producer, self.awaited, self.topics, self.timeout_s = producer, awaited, topics, timeout_s
        self.sent = self.lists = 0
        self.before_click: list[tuple[Interaction, Ranking]] = []
        self._offsets: dict[str, dict[str, int]] = {}
        self._lists: dict[str, str] = {}

    async def send(self, record: LogRecord) -> None:
        """One record, when its predecessors of the same user are through."""
        if (
            isinstance(record, Interaction)
            and record.request_id
            and record.request_id == self._lists.get(record.user_id)
        ):
            offsets = self._offsets[record.user_id]
            ranking = await self.awaited.covering(record.user_id, record.request_id, offsets, self.timeout_s)
            self.before_click.append((record, ranking))
        metadata = await self.produce(message_of(record))
        if isinstance(record, Item):
            return
        self._offsets.setdefault(record.user_id, {})[metadata.topic] = metadata.offset
        if isinstance(record, CandidateList):
            self._lists[record.user_id] = record.request_id
            self.lists += 1

    async def produce(self, message: Message) -> Any:
        """A message as it is; its position once the broker has it."""
        self.sent += 1
        return await _sent(self.producer, message, self.topics)


async def replay(
    records: Iterable[LogRecord],
    connection: dict[str, Any],
    topics: TopicMap,
    *,
    pace: float = 0.0,
    users_at_once: int = 128,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ReplayReport:
    """Send a log through a running worker.

    Args:
        records: in order of time.
        connection: aiokafka's connection arguments.
        topics: what they are called.
        pace: 1.0 is the log's own speed, 10.0 ten times as fast, 0 as fast as rankings come.
        users_at_once: how many users may have a record on its way.
        on_progress: called with the number of records sent.
    """
    began = time.monotonic()
    async with _producing(connection) as producer:
        awaited = Awaited()
        follower = await _follow_rankings(connection, awaited, topics.called(RANKINGS))
        try:
            replayer = Replayer(producer, awaited, topics)
            await _send_all(records, replayer, pace, users_at_once, on_progress)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
    ranks = [
        rank_of(click.item_id or "", [line.item_id for line in ranking.items], _scores(ranking))
        for click, ranking in replayer.before_click
        if any(line.item_id == click.item_id for line in ranking.items)
    ]
    return ReplayReport(
        sent=replayer.sent,
        lists=replayer.lists,
        ranked_before_click=len(replayer.before_click),
        seconds=time.monotonic() - began,
        metrics=summarise_ranks(np.array(ranks, np.int64)),
    )


def between(records: Iterable[LogRecord], start: int | None, end: int | None) -> Iterator[LogRecord]:
    """The records with start <= ts < end, in milliseconds; items and users always."""
    for record in records:
        ts = None if isinstance(record, Item | User) else record.ts
        if ts is None or ((start is None or ts >= start) and (end is None or ts < end)):
            yield record


async def send_file(path: Path, connection: dict[str, Any], topics: TopicMap) -> int:
    """Send a JSONL file's messages as they are, in order; how many there were."""
    sent = 0
    async with _producing(connection) as producer:
        for message in read_messages(path):
            await _sent(producer, message, topics)
            sent += 1
    return sent


async def _sent(producer: AIOKafkaProducer, message: Message, topics: TopicMap) -> Any:
    """Send a message of one of our topics.

    Raises:
        LiverankError: others send there, in a form of their own.
    """
    refuse_mapped(message.topic, topics)
    return await producer.send_and_wait(topics.called(message.topic), key=message.key, value=message.value)


@asynccontextmanager
async def _producing(connection: dict[str, Any]) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that is connected.

    Raises:
        LiverankError: no broker answers.
    """
    producer = AIOKafkaProducer(**connection, acks="all", max_request_size=8 << 20)
    try:
        await producer.start()
        yield producer
    except KafkaConnectionError as error:
        addresses = ",".join(connection["bootstrap_servers"])
        raise LiverankError(f"no Kafka broker answers at {addresses}") from error
    except KafkaError as error:
        raise LiverankError(f"the broker does not take it: {error}; see `liverank topics check`") from error
    finally:
        await producer.stop()


async def _send_all(
    records: Iterable[LogRecord],
    replayer: Replayer,
    pace: float,
    users_at_once: int,
    on_progress: Callable[[int], None],
) -> None:
    """Each user's records go out one after another; at most `users_at_once` records are on their way."""
    places = asyncio.Semaphore(users_at_once)
    tails: dict[str, asyncio.Task[None]] = {}
    failed: list[Exception] = []

    async def follow(previous: asyncio.Task[None] | None, record: LogRecord) -> None:
        try:
            if previous is not None:
                await asyncio.wait({previous})
            if not failed:
                await replayer.send(record)
                on_progress(replayer.sent)
        except Exception as error:
            failed.append(error)
        finally:
            places.release()

    async for record in paced(records, pace):
        await places.acquire()
        if failed:
            break
        who = record.item_id if isinstance(record, Item) else record.user_id
        tails[who] = asyncio.create_task(follow(tails.get(who), record))
        if len(tails) > 4 * users_at_once:
            tails = {name: task for name, task in tails.items() if not task.done()}
    if tails:
        await asyncio.wait(tails.values())
    if failed:
        raise failed[0]


async def paced(records: Iterable[LogRecord], pace: float) -> AsyncIterator[LogRecord]:
    """The records, each when its time has come; at once where `pace` is 0."""
    began, first = time.monotonic(), None
    for record in records:
        ts = getattr(record, "ts", None)
        if pace and ts is not None:
            first = ts if first is None else first
            await asyncio.sleep(max(0.0, began + (ts - first) / 1000 / pace - time.monotonic()))
        yield record


async def _follow_rankings(connection: dict[str, Any], awaited: Awaited, topic: str) -> asyncio.Task[None]:
    """Read `rankings` from its present end on; the task ends by being cancelled."""
    consumer = AIOKafkaConsumer(topic, **connection, group_id=None, auto_offset_reset="latest", fetch_max_wait_ms=5)
    await consumer.start()
    await consumer.seek_to_end()
    await asyncio.gather(*(consumer.position(partition) for partition in consumer.assignment()))

    async def follow() -> None:
        try:
            async for message in consumer:
                awaited.put(_ranking_decoder.decode(message.value))
        finally:
            await consumer.stop()

    return asyncio.create_task(follow())


def _scores(ranking: Ranking) -> list[float]:
    """Of each line; where the worker leaves scores out, what falls from line to line."""
    return [-float(line.rank) if line.score is None else line.score for line in ranking.items]
