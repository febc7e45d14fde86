"""The consumer group's part of reading: aiokafka's consumer as a member that fetches nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import InvalidSessionTimeoutError
from faust.transport.drivers import aiokafka as driver

from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.kafka.transactions import Membership


class JoinedListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes as whom and in which generation partitions came, before another generation can begin."""

    async def on_partitions_assigned(self, assigned: Any) -> None:
        coordinator = self._thread._ensure_consumer()._coordinator
        joined = Membership(coordinator.group_id, coordinator.generation, coordinator.member_id, now_ms())
        self._thread.consumer.joined = joined if joined.generation >= 0 and joined.member else None
        await super().on_partitions_assigned(assigned)


class MemberThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread around a consumer of aiokafka's, which joins, sends heartbeats, and asks where topics end."""

    mundane_level = "debug"  # of "Starting..." and the like

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = connection.READ_COMMITTED  # read when it starts; Faust has no setting for it
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, and end its fetching before it has a partition to fetch from."""
        await super().on_start()
        await self.fetch_nothing()

    async def fetch_nothing(self) -> None:
        """End aiokafka's fetching for good, and hear what its coordinator would tell there."""
        consumer = self._ensure_consumer()
        await consumer._fetcher.close()
        # The coordinator tells what it cannot go on after, such as a right that is missing, to who waits for records.
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.add_done_callback(self._refused)
        consumer._subscription.register_fetch_waiters({refused})

    def _refused(self, told: asyncio.Future[None]) -> None:
        """End the process: who has no partition yet takes no records, and would not hear of it there."""
        error = None if told.cancelled() else told.exception()
        if isinstance(error, InvalidSessionTimeoutError):
            seconds = self.app.settings.broker.session_timeout_s
            error = LiverankError(
                f"the broker lets nobody into a group with a session timeout of {seconds:g} s: "
                "LIVERANK_SESSION_TIMEOUT_S must lie between its group.min.session.timeout.ms and its "
                "group.max.session.timeout.ms"
            )
        if isinstance(error, Exception):
            self.app.failed(error)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Nothing: Faust looks here whether aiokafka fetches. `liverank_lag` tells what waits."""

    verify_recovery_event_path = verify_event_path
