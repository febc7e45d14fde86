"""What the trainer reads from and writes to on Kafka: clients, and how long their answers are waited for.

One trainer a model: what it announces goes out in transactions under the model's name, so that of two the one started
last fences the other, whatever their clocks say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced, TransactionalIdAuthorizationFailed

from online_learning.settings import TrainerSettings
from online_learning.trainer.metrics import TrainerMetrics
from online_learning.trainer.reading import MOST_MESSAGE_BYTES, missing
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import ModelDelta, ModelUpdate
from ranker.contracts.topics import ERASURES, EXAMPLES, ITEM_VECTORS, ITEMS, MODEL_UPDATES

log = logging.getLogger(__name__)

#: Records of the followed topics taken in one turn.
AT_ONCE = 1000
#: What a broker that does not answer is still given once the process was asked to end.
ENDING_S = 1.0
_TRANSACTION_MS = 10_000  # after which the broker aborts one that a killed trainer left open

Given = TypeVar("Given")


class Unreached(LiverankError):
    """The broker does not answer, and the process was asked to end."""


class Connection:
    """The clients of one trainer. Belongs to the event loop."""

    control: Any  # the consumer of `model-updates`
    items: Any  # of items and their vectors
    examples: Any  # of examples and erasures

    def __init__(
        self,
        settings: TrainerSettings,
        connection: Mapping[str, Any],
        group_id: str,
        metrics: TrainerMetrics,
        stop: asyncio.Event,
    ) -> None:
        """
        Args:
            settings: of the process.
            connection: how aiokafka's clients reach the broker.
            group_id: the consumer group's name.
            metrics: counts records that are gone.
            stop: set once the process was asked to end.
        """
        self._settings, self._connection = settings, dict(connection)
        self._topics, self._group_id, self._metrics, self._stop = settings.topics, group_id, metrics, stop
        self._announcing = asyncio.Lock()

    async def connect(self, clients: AsyncExitStack) -> None:
        """A producer and the consumers, which the stack closes.

        Once the producer has started no earlier trainer of the model can send, and what it left open is aborted.
        """
        transactions = f"{self._group_id}-{self._settings.registry.model}"
        self._producer = AIOKafkaProducer(
            **self._connection, acks="all", transactional_id=transactions, transaction_timeout_ms=_TRANSACTION_MS,
            max_request_size=MOST_MESSAGE_BYTES,
        )  # fmt: skip
        self.control = self._consumer(None, MODEL_UPDATES)
        self.items = self._consumer(None, ITEMS, ITEM_VECTORS)
        self.examples = self._consumer(self._group_id)
        wanted = (self._producer, self.control, self.items, self.examples)
        for client in wanted:
            clients.push_async_callback(client.stop)
        try:
            for client in wanted:
                await self.reached(client.start())
        except KafkaConnectionError as error:
            addresses = ",".join(self._connection["bootstrap_servers"])
            raise LiverankError(f"no Kafka broker answers at {addresses}") from error
        except TransactionalIdAuthorizationFailed as error:
            raise LiverankError(
                f"this process's user may not WRITE under the transactional id {transactions!r}; `liverank topics "
                "acls` prints what a trainer needs"
            ) from error

    async def announce(self, topic: str, key: bytes, record: ModelDelta | ModelUpdate) -> None:
        """Send a record that every worker follows.

        Raises:
            LiverankError: a trainer of this model was started after this one.
        """
        try:  # deltas go out while a version is on its way: one transaction at a time
            async with self._announcing, self._producer.transaction():
                called = self._topics.called(topic)
                await self._producer.send_and_wait(called, msgspec.json.encode(record), key=key)
        except ProducerFenced as error:
            raise LiverankError(
                f"another trainer of model {self._settings.registry.model!r} was started, or the broker gave up what "
                "this one was sending; there is one a model, and the next start goes on from the checkpoint"
            ) from error

    async def reached(self, asked: Awaitable[Given]) -> Given:
        """What the broker answers, however long it takes; once the process was asked to end, a little longer.

        Raises:
            Unreached: it did not answer by then.
        """
        answer, stop = asyncio.ensure_future(asked), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((answer, stop), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((answer,), timeout=ENDING_S)
            if not answer.done():
                raise Unreached("the broker does not answer, and the process was asked to end")
            return answer.result()
        finally:
            answer.cancel()
            stop.cancel()

    def _consumer(self, group_id: str | None, *topics: str) -> Any:
        return AIOKafkaConsumer(
            *map(self._topics.called, topics), **self._connection, group_id=group_id, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed",
            max_partition_fetch_bytes=MOST_MESSAGE_BYTES,
        )  # fmt: skip

    async def assign(self, offsets: Mapping[str, int]) -> None:
        """Take every partition of the examples and of the erasures, from where the trainer has read.

        Args:
            offsets: `topic-partition` -> the offset after the last one read.
        """
        admin = AIOKafkaAdminClient(**self._connection)
        await admin.start()
        try:
            named = [self._topics.called(topic) for topic in (EXAMPLES, ERASURES)]
            described = await self.reached(admin.describe_topics(named))
            found = {topic["topic"]: topic for topic in described}
        finally:
            await admin.close()
        places = []
        for name, topic in found.items():
            if not topic["partitions"]:
                raise LiverankError(f"the topic {name} does not exist; `liverank topics create` makes it")
            places += [TopicPartition(name, part["partition"]) for part in topic["partitions"]]
        self.examples.assign(places)
        for place in places:
            offset = offsets.get(f"{place.topic}-{place.partition}")
            if offset is None:
                await self.examples.seek_to_beginning(place)
            else:
                self.examples.seek(place, offset)

    @property
    def grown(self) -> bool:
        """Whether a topic has partitions that are not read, as of when aiokafka asked last: every five minutes."""
        read = self.examples.assignment()
        return any(
            TopicPartition(topic, number) not in read
            for topic in {place.topic for place in read}
            for number in self.examples.partitions_for_topic(topic) or ()
        )

    async def gather(self, most: int) -> list[Any]:
        """Records for one step: as many as it takes, or what `train_ms` brings."""
        records: list[Any] = []
        until = time.monotonic() + self._settings.gather_ms / 1000
        while (room := most - len(records)) > 0 and (left := until - time.monotonic()) > 0:
            fetched = await self.examples.getmany(timeout_ms=max(1, int(left * 1000)), max_records=room)
            records += [record for several in fetched.values() for record in several]
        return records

    async def waiting(self) -> int:
        """Examples and erasures that are still to be read, as of the newest fetch."""
        behind = 0
        for place in self.examples.assignment():
            end = self.examples.highwater(place)
            if end is not None:
                behind += max(0, end - await self.examples.position(place))
        return behind

    async def tell_of_missing(self, offsets: Mapping[str, int], records: list[Any]) -> None:
        """Skipped offsets may be markers of transactions, or aborted; what lay before a topic's begin is lost.

        Args:
            offsets: as for `assign`, before these records.
            records: read since.
        """
        skipped = missing(offsets, records)
        if not skipped:
            return
        places = {f"{place.topic}-{place.partition}": place for place in self.examples.assignment()}
        begins = await self.reached(self.examples.beginning_offsets([places[name] for name in skipped]))
        for name, count in skipped.items():
            if begins[places[name]] > offsets.get(name, 0):
                self._metrics.missed.inc(count)
                log.error("%d records of %s were deleted before they were read: keep the topic for longer", count, name)

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Tell the broker how far the checkpoint is, for who looks at the group's lag. Nothing here reads it."""
        places = {place: f"{place.topic}-{place.partition}" for place in self.examples.assignment()}
        with suppress(KafkaError, Unreached):
            reached = {place: offsets[name] for place, name in places.items() if name in offsets}
            if reached:  # else nothing has been read yet, and aiokafka takes no commit of nothing
                await self.reached(self.examples.commit(reached))

    async def read_all(self, consumer: Any, handle: Callable[[Any], None], *, while_stopping: bool = False) -> None:
        """Everything that followed topics hold now; once asked to stop it ends early, unless `while_stopping`."""
        for place, end in (await self.reached(consumer.end_offsets(consumer.assignment()))).items():
            while await self.reached(consumer.position(place)) < end and (while_stopping or not self._stop.is_set()):
                fetched = await consumer.getmany(timeout_ms=500, max_records=AT_ONCE)
                for records in fetched.values():
                    for record in records:
                        handle(record)
