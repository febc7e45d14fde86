"""The composition root: a Faust app with its table, its agents and everything they need."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import faust
from faust.types import TP

from liverank.settings import Settings
from ranker.contracts.decoding import InputDecoder
from ranker.registry.encoder import TextEncoder
from streams.kafka import connection
from streams.kafka.admin import CLICKS, DELIVERY, ITEMS
from streams.kafka.consumer import ChunkTransport
from streams.kafka.outbox import Outbox
from streams.kafka.progress import Place, Progress
from streams.models.canary_watch import CanaryWatch
from streams.models.manager import Models
from streams.pipeline.agents import AGENTS, Agent, Receive
from streams.pipeline.batcher import Batcher
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.examples import Examples
from streams.pipeline.handler import Intake, UserInputs
from streams.pipeline.items import ItemInputs
from streams.pipeline.rankings import Job, Rankings
from streams.state.checkpoint import Checkpoints
from streams.state.store import Rows, RowTable, row_table
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Failed = Callable[[BaseException], None]

#: Chunks that an agent's queue holds before its partitions are no longer fetched.
_CHUNKS_QUEUED = 32
_WATCH_EVERY_S = 2.0
#: Part of the session timeout in which rows are sent after the group's word. With `topics.DELIVERY` it stays below 1.
_LEASE = 0.2


class InputsApp(faust.App):  # type: ignore[misc]
    """Faust's app, with state written and offsets committed by checkpoints.

    Delivery is at least once: an input counts as handled when its ranking or dead letter and its user's row are
    confirmed by the broker, and comes again otherwise.
    """

    mundane_level = "debug"  # of "Starting..." and the like

    settings: Settings
    progress: Progress
    checkpoints: Checkpoints
    left: Callable[[], None]

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Faust is about to stop, or to give partitions away: finish and commit what was taken, and let go of it."""
        await self.checkpoints.take()
        self.left()

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust calls this after `_on_partitions_revoked`; but a worker that had no partitions was not asked there."""
        self.left()
        await super()._on_partitions_assigned(assigned, generation_id)


class Parts:
    """What the worker runs beside the app, and ends with it."""

    def __init__(
        self,
        *,
        settings: Settings,
        models: Models,
        encoder: TextEncoder | None,
        metrics: Metrics,
        failed: Failed,
    ) -> None:
        """Put the parts together. Nothing connects before the app starts.

        Args:
            settings: the worker's settings.
            models: started; they follow the control topic.
            encoder: encodes items' texts; None leaves them unencoded.
            metrics: counts.
            failed: takes the error after which the process must end.
        """
        slot, self._loop = models.slot, asyncio.get_running_loop()
        assert slot.current is not None
        self._failed = failed
        self._metrics = metrics
        self._busy: set[str] = set()  # topics whose agent has a chunk in work
        self._queues: dict[str, Any] = {}  # topic -> the chunks that wait for its agent
        self._interval_s, self._partitions = settings.checkpoint_ms / 1000, settings.partitions
        self.app = app = _faust_app(settings)
        app.settings = settings
        self._progress = app.progress = Progress()
        app.transport = ChunkTransport(app.conf.broker_consumer, app)
        self.outbox = outbox = Outbox(settings)
        self._changelog = Outbox(settings, DELIVERY * settings.session_timeout_s)
        dead_letters = DeadLetters(outbox, metrics)
        self.watch = CanaryWatch(settings, slot, models.manifests, outbox, metrics.models, self._share_of_users)
        self._examples = Examples(settings, slot, outbox, self.watch, metrics)
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
        self._rows = Rows(self._read)
        intake = Intake(app, app.progress, metrics)
        self._users = UserInputs(
            settings=settings,
            slot=slot,
            intake=intake,
            rows=self._rows,
            batcher=self._batcher,
            dead_letters=dead_letters,
            outbox=outbox,
            metrics=metrics,
            examples=self._examples,
            last=rankings.last,
        )
        self._items = ItemInputs(
            decoder=InputDecoder(slot.current.schema, settings.limits),
            catalog=models.catalog,
            encoder=encoder,
            intake=intake,
            dead_letters=dead_letters,
            outbox=outbox,
            metrics=metrics,
        )
        app.checkpoints = Checkpoints(
            progress=app.progress,
            rows=self._rows,
            table=self.table,
            batcher=self._batcher,
            outbox=outbox,
            changelog=self._changelog,
            lease_s=_LEASE * settings.session_timeout_s,
            is_member=self._is_member,
            commit=self._commit,
            left=self._let_go,
            metrics=metrics,
        )
        app.left = self._let_go
        for topic, agent in AGENTS.items():
            self._register(topic, agent, self._items.receive if topic == ITEMS else self._users.receive, settings)

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
            self.watch.look()
            self.app.consumer.rewind_lost(self._idle)
            self._metrics.lag(self._lags())

    def wake(self) -> None:
        """Have the scorer thread look at what waits beside rankings. Any thread may ask."""
        self._loop.call_soon_threadsafe(self._users.wake)

    def close(self, timeout_s: float) -> None:
        """End the threads and wait for the last confirmations."""
        self._batcher.close()
        self._items.close()
        self.outbox.close(timeout_s)
        self._changelog.close(timeout_s)

    def _register(self, topic: str, agent: Agent, receive: Receive, settings: Settings) -> None:
        inputs = self.app.topic(
            topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=settings.partitions,
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

    def _read(self, partition: int, user: bytes) -> bytes | None:
        return self.table.store.read(partition, user)

    async def _is_member(self) -> bool:
        return bool(await self.app.consumer.is_member())

    async def _commit(self, offsets: Mapping[Place, int]) -> bool:
        return bool(await self.app.consumer.commit_offsets(offsets))

    def _share_of_users(self) -> float:
        mine: int = sum(tp.topic == CLICKS for tp in self.app.consumer.assignment())
        return mine / self._partitions

    def _let_go(self) -> None:
        """Partitions may leave. Whoever gets them writes their rows, so nothing read from them may be kept."""
        self._rows.clear()
        self._examples.windows.clear()
        self._progress.clear()
        self.app.consumer.forget_partitions()

    def _lags(self) -> dict[Place, int]:
        lags = {}
        for tp in self.app.consumer.assignment():
            expected = self._progress.expected((tp.topic, tp.partition))
            end = self.app.consumer.highwater(tp)
            if expected is not None and end is not None:
                lags[tp.topic, tp.partition] = max(0, end - expected)
        return lags


def _faust_app(settings: Settings) -> InputsApp:
    """The app with Faust's settings. Nothing here reads the environment or a loop."""
    return InputsApp(
        settings.app,
        **connection.for_faust(settings),
        Table=RowTable,
        store="rocksdb://?driver=rocksdict",
        datadir=str(settings.data),
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=connection.MAX_MESSAGE_BYTES,
        broker_session_timeout=settings.session_timeout_s,
        # A worker hears of a rebalance at its next heartbeat.
        broker_heartbeat_interval=settings.session_timeout_s / 10,
        broker_commit_interval=10.0,  # Faust has nothing to commit
        broker_max_poll_interval=300.0,
        stream_recovery_delay=0.0,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        cython_optimizations=True,
        web_enabled=False,
        autodiscover=False,
    )
