"""The composition root: everything that a worker runs, put together over the Faust app."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import RowError
from ranker.contracts.topics import CLICKS, ITEMS
from ranker.registry.encoder import TextEncoder
from streams.app import faust_app
from streams.kafka import connection
from streams.kafka.consuming.consumer import ChunkTransport
from streams.kafka.outbox import Outbox
from streams.kafka.progress import PartitionProgress, Place
from streams.kafka.settled import SettledEnds
from streams.kafka.topic_ids import TopicIds
from streams.kafka.transactions import Membership, TransactionalOutbox, transaction_s, transactional_id
from streams.models.canary_watch import CanaryWatch
from streams.models.manager import ModelManager
from streams.pipeline.agents import AGENTS, Agent, Receive
from streams.pipeline.batcher import Batcher
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.erasures import Erasures
from streams.pipeline.examples import Examples
from streams.pipeline.handler import InputHandler
from streams.pipeline.intake import Intake
from streams.pipeline.items import ItemHandler
from streams.pipeline.jobs import Job
from streams.pipeline.rankings import Rankings
from streams.settings import WorkerSettings
from streams.state.cache import RowCache
from streams.state.checkpoint import Checkpoints
from streams.state.store import Key, RowTable, StoredRow, row_table
from streams.telemetry.health import Doing
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Failed = Callable[[BaseException], None]

#: Chunks that an agent's queue holds before its partitions are no longer fetched.
_CHUNKS_QUEUED = 32
_WATCH_EVERY_S = 2.0
_SETTLED_AFTER = 3.0  # times what a transaction may take: after that what is pending is the broker's fault
_KEPT_OF_ROW = 4 << 10  # bytes of a damaged row on the log: as long as one without its list


class Assembly:
    """What the worker runs beside the app, and ends with it."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        models: ModelManager,
        encoder: TextEncoder | None,
        metrics: Metrics,
        failed: Failed,
    ) -> None:
        """Put the parts together. Nothing connects before the app starts.

        Args:
            settings: the worker's settings.
            models: started; they follow the control topic.
            encoder: encodes items' texts, and what people type; None leaves them unencoded.
            metrics: counts.
            failed: takes the error after which the process must end.
        """
        slot, self._loop = models.slot, asyncio.get_running_loop()
        assert slot.current is not None
        self._failed = failed
        self._metrics = metrics
        self._busy: set[str] = set()  # topics whose agent has a chunk in work
        self._queues: dict[str, Any] = {}  # topic -> the chunks that wait for its agent
        self._interval_s, self._partitions = settings.checkpoint_ms / 1000, settings.broker.partitions
        self.app = app = faust_app(settings)
        app.settings, app.failed, app.store_damaged = settings, failed, self._store_damaged
        self._progress = app.progress = PartitionProgress()
        self._looking: asyncio.Task[None] | None = None
        self._topic_ids = app.topic_ids = TopicIds(settings.broker, map(settings.broker.topics.called, AGENTS))
        app.settled_ends = SettledEnds(settings.broker, _SETTLED_AFTER * transaction_s(settings.broker))
        app.transport = ChunkTransport(app.conf.broker_consumer, app)
        self.outbox = outbox = Outbox(settings.broker)
        self._bulk = bulk = Outbox(settings.broker, more=connection.IN_BULK)
        self._changelog = TransactionalOutbox(settings.broker, transactional_id(settings.broker, settings.data))
        dead_letters = DeadLetters(outbox, metrics)
        self.watch = CanaryWatch(settings, slot, models.manifests, outbox, metrics.models, self._share_of_users)
        self._examples = Examples(settings, slot, bulk, self.watch, metrics)
        rankings = Rankings(
            settings=settings,
            slot=slot,
            deltas=models.deltas,
            recent=models.recent,
            examples=self._examples,
            watch=self.watch,
            outbox=outbox,
            dead_letters=dead_letters,
            metrics=metrics,
            again=self.wake,
        )
        self._batcher: Batcher[Job] = Batcher(rankings, settings.batch, failed)
        self.table: RowTable = row_table(app, settings)
        self._names = settings.broker.row_names
        self._rows = RowCache(self._read, settings.budget.rows, damaged=self._row_damaged, names=self._names)
        self._erasures = Erasures(settings, outbox, app.progress, app.settled_ends, self._rows.get)
        intake = Intake(app, app.progress, metrics)
        self._users = InputHandler(
            settings=settings,
            slot=slot,
            intake=intake,
            rows=self._rows,
            batcher=self._batcher,
            dead_letters=dead_letters,
            outbox=outbox,
            metrics=metrics,
            examples=self._examples,
            erasures=self._erasures,
            last=rankings.last,
            topic_ids=app.topic_ids,
            since=self._since,
            encoder=encoder if settings.words else None,
            progress=app.progress,
            failed=failed,
        )
        self._items = ItemHandler(
            decoder=InputDecoder(slot.current.schema, settings.limits, settings.broker.topics.translated),
            catalog=models.catalog,
            encoder=encoder,
            intake=intake,
            dead_letters=dead_letters,
            outbox=outbox,
            metrics=metrics,
            topics=settings.broker.topics,
        )
        app.checkpoints = Checkpoints(
            progress=app.progress,
            rows=self._rows,
            table=self.table,
            settled=self._users.settled,
            outboxes=(outbox, bulk),
            changelog=self._changelog,
            membership=self._membership,
            commit=self._commit,
            left=self._let_go,
            metrics=metrics,
        )
        app.left = self._let_go
        self._called = called = settings.broker.topics.called
        for topic, agent in AGENTS.items():
            self._register(
                called(topic), agent, self._items.receive if topic == ITEMS else self._users.receive, settings
            )

    async def start(self) -> None:
        """Shut out an earlier life of this worker, and have Faust join the group and recover rows.

        Raises:
            SendError: the broker does not let this worker write rows.
        """
        await self._changelog.start()
        await self.app.start()

    async def checkpoint(self, stop: asyncio.Event) -> None:
        """Take checkpoints until `stop`. One that has begun is never cut short.

        Raises:
            SendError: the broker did not take a record.
        """
        turns = max(1, round(_WATCH_EVERY_S / self._interval_s))
        while not stop.is_set():
            for _ in range(turns):
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._interval_s)
                    return
                await self.app.checkpoints.take()
                await self._users.close_windows()
            self.watch.look()
            self._look_soon()
            self.app.consumer.rewind_lost(self._idle)
            lags, open_offsets = self._lags()
            self._metrics.lag(lags, open_offsets)

    def wake(self) -> None:
        """Have the scorer thread look at what waits beside rankings. Any thread may ask."""
        self._loop.call_soon_threadsafe(self._users.wake)

    def work(self) -> Doing:
        """What is being done. Any thread may ask."""
        queued = any(not queue.empty() for queue in tuple(self._queues.values()))
        return Doing(self._metrics.handled, (queued or bool(self._busy)) and not len(self.outbox) + len(self._bulk))

    def serves(self) -> bool:
        """Whether partitions are being served, and not changing hands or recovered. Any thread may ask."""
        return bool(self.app.flow_control.is_active())

    def close(self, timeout_s: float) -> None:
        """End the threads and wait for the last confirmations."""
        if self._looking is not None:
            self._looking.cancel()
        self._batcher.close()
        self._items.close()
        self._users.close()
        self.outbox.close(timeout_s)
        self._bulk.close(timeout_s)
        self._changelog.close(timeout_s)

    def _look_soon(self) -> None:
        """At topics, and at what erasures left to do. Beside checkpoints, since broker and disk may take their time."""
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        await self._erasures.follow_up(lambda place: self.table.store.compact(place[0], self._names.of(place[1])))
        await self._look_at_topics()

    async def _look_at_topics(self) -> None:
        """Read topics that were made anew from their beginning.

        Raises:
            TopicError: rows know of records that a topic does not have, though it is the same.
        """
        doubts, changed = self._users.doubts(), await self._topic_ids.look()
        if changed:

            def take_over() -> None:
                for topic in changed:
                    if self._topic_ids.of(topic):  # else the broker had not said until now
                        self.app.consumer.read_anew(topic)
                self._topic_ids.learn(changed)

            await self.app.checkpoints.between(take_over)
        if changed or self.app.consumer.lacks(map(self._called, AGENTS)):
            await self.app.consumer.refresh()
        for topic, error in doubts.items():
            if topic not in changed:
                raise error

    def _register(self, topic: str, agent: Agent, receive: Receive, settings: WorkerSettings) -> None:
        inputs = self.app.topic(
            topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=settings.broker.partitions,
            acks=False,  # a checkpoint commits
            maxsize=_CHUNKS_QUEUED,
        )

        async def noted(message: Any) -> None:
            self._busy.add(topic)
            await receive(message)
            self._busy.discard(topic)

        async def guarded(stream: Any) -> None:
            # Faust acks the event of an agent that raises and starts another: here nothing goes on.
            self._queues[topic] = stream.channel.queue
            try:
                await agent(stream, noted)
            except Exception as error:
                self._failed(error)

        self.app.agent(inputs, name=topic)(guarded)

    def _idle(self, topic: str) -> bool:
        return topic not in self._busy and self._queues[topic].empty()

    def _read(self, partition: int, name: bytes) -> StoredRow:
        return self.table.store.read(partition, name)

    def _row_damaged(self, key: Key, stored: bytes, why: RowError) -> None:
        """The user starts anew, or goes on without the list; what was stored is on the log, for who can make something
        of it.
        """
        self._metrics.damaged_rows.inc()
        kept = base64.b64encode(stored[:_KEPT_OF_ROW]).decode()
        log.error(
            "the row of %r in partition %d is set aside: %s; of its %d bytes, in base64: %s",
            self._names.of(key[1]), key[0], why, len(stored), kept,
        )  # fmt: skip

    def _store_damaged(self, partition: int, aside: Path, error: Exception) -> None:
        self._metrics.damaged_stores.inc()
        log.error(
            "the rows of partition %d on disk are damaged, and are made anew of the changelog (%s); what was there is "
            "in %s, and may be deleted", partition, " ".join(str(error).split()), aside,
        )  # fmt: skip

    def _membership(self) -> Membership | None:
        membership: Membership | None = self.app.consumer.membership
        return membership

    def _since(self) -> int:
        """When the partitions came that this worker has, in milliseconds."""
        membership = self._membership()
        return now_ms() if membership is None else membership.since

    async def _commit(self, offsets: Mapping[Place, int], membership: Membership) -> bool:
        return await self._changelog.commit(self.app.consumer.to_commit(offsets), membership)

    def _share_of_users(self) -> float:
        mine: int = sum(tp.topic == self._called(CLICKS) for tp in self.app.consumer.assignment())
        return mine / self._partitions

    def _let_go(self) -> None:
        """Partitions may leave. Whoever gets them writes their rows, so nothing read from them may be kept."""
        self._rows.clear()
        self._users.let_go()
        self._examples.windows.clear()
        self._progress.clear()
        self.app.consumer.forget_partitions()

    def _lags(self) -> tuple[dict[Place, int], dict[Place, int]]:
        """Of each partition the committed inputs that wait, and the offsets that an open transaction holds back."""
        lags: dict[Place, int] = {}
        held: dict[Place, int] = {}
        for tp in self.app.consumer.assignment():
            place = tp.topic, tp.partition
            expected, ends = self._progress.expected(place), self.app.consumer.ends(tp)
            if expected is not None and ends is not None:
                stable, high = ends
                lags[place], held[place] = max(0, stable - expected), max(0, high - stable)
        return lags, held
