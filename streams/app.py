"""The Faust app: membership, assignment and recovery are Faust's, state and commits the checkpoints'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from streams.kafka import connection
from streams.kafka.progress import PartitionProgress
from streams.kafka.settled import SettledEnds
from streams.kafka.topic_ids import TopicIds
from streams.settings import WorkerSettings
from streams.state.checkpoint import Checkpoints
from streams.state.recovery import RowTables
from streams.state.store import RowTable


class WorkerApp(faust.App):  # type: ignore[misc]
    """Faust's app, with state written and offsets committed by checkpoints.

    Delivery is at least once: an input counts as handled when its ranking or dead letter and its user's row are
    confirmed by the broker, and comes again otherwise.
    """

    mundane_level = "debug"  # of "Starting..." and the like

    settings: WorkerSettings
    progress: PartitionProgress
    topic_ids: TopicIds
    settled_ends: SettledEnds
    checkpoints: Checkpoints
    left: Callable[[], None]
    failed: Callable[[BaseException], None]
    store_damaged: Callable[[int, Path, Exception], None]

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Faust is about to stop, or to give partitions away: finish and commit what was taken, and let go of it."""
        await self.checkpoints.take()
        self.left()

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust calls this after `_on_partitions_revoked`; but a worker that had no partitions was not asked there."""
        self.left()
        self.consumer.membership = self.consumer.joined
        await super()._on_partitions_assigned(assigned, generation_id)

    def share_out_anew(self) -> None:
        """Ask the group to share the partitions out again: whoever gets them recovers them first."""
        thread = self.consumer._thread
        coordinator = thread._ensure_consumer()._coordinator
        thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)


def faust_app(settings: WorkerSettings) -> WorkerApp:
    """The app with Faust's settings. Nothing here reads the environment or a loop."""
    return WorkerApp(
        settings.broker.group,
        **connection.for_faust(settings.broker),
        Table=RowTable,
        TableManager=RowTables,
        store="rocksdb://?driver=rocksdict",
        datadir=str(settings.data),
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=connection.MAX_MESSAGE_BYTES,
        broker_session_timeout=settings.broker.session_timeout_s,
        # A worker hears of a rebalance at its next heartbeat.
        broker_heartbeat_interval=settings.broker.session_timeout_s / 10,
        broker_commit_interval=10.0,  # Faust has nothing to commit
        broker_max_poll_interval=300.0,
        stream_recovery_delay=0.0,
        topic_partitions=settings.broker.partitions,
        topic_replication_factor=max(1, settings.broker.replication),
        topic_disable_leader=True,
        topic_allow_declare=False,  # a worker need not have the right to create topics: they are checked before
        key_serializer="raw",
        value_serializer="raw",
        cython_optimizations=True,
        web_enabled=False,
        autodiscover=False,
    )
