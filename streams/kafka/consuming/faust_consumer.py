"""Faust's consumer, whose records librdkafka fetches; aiokafka's consumer is the group's member and no more.

* aiokafka's fetching takes more processor time than all else that is done with an input (`docs/decisions`), and looks
  around five times a second while nothing comes.
* Faust has its fetches go through a queue of calls. Here a fetch is one call.
* Faust makes four tasks to hand on a message, in case the flow is suspended meanwhile; here only where there is
  something to wait for.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.kafka.consuming.fetching import FetchedRecord, RecordFetcher
from streams.kafka.consuming.member import JoinedListener, MemberThread

_FETCH_S = 1.0  # for which records are waited for
_MOST_TAKEN = 1024  # records at once


class FetchedConsumer(driver.Consumer):  # type: ignore[misc]
    """Hands on what `records` has fetched. What is to be read, a subclass says."""

    mundane_level = "debug"  # of "Starting..." and the like

    RebalanceListener = JoinedListener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records = RecordFetcher(self.app.settings.broker)

    def _new_consumer_thread(self) -> MemberThread:
        return MemberThread(self, loop=self.loop, beacon=self.beacon)

    async def on_stop(self) -> None:
        """Fetch no more."""
        await self.records.close()
        await super().on_stop()

    def ends(self, tp: TP) -> tuple[int, int] | None:
        """Where the partition ended a second ago, for who reads what is committed and in all; None if it is not known.

        They differ while a transaction is open that holds up who reads.
        """
        return self.records.ends(tp)

    def highwater(self, tp: TP) -> int:
        """Where the partition ended a second ago, and not before what was fetched; beyond every offset if not known."""
        ends = self.records.ends(tp)
        return sys.maxsize if ends is None else ends[1]

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """As Faust's.

        Raises:
            ConsumerStoppedError: the consumer was stopped.
        """
        consumer = self._thread._ensure_consumer()
        if consumer._closed:
            raise ConsumerStoppedError
        with consumer._subscription.fetch_context():  # who does not ask for long has to leave the group
            return await self.records.take(active_partitions or (), timeout, _MOST_TAKEN)

    def _to_message(self, tp: TP, record: FetchedRecord) -> Any:
        return ConsumerMessage(
            *tp, record.offset, record.timestamp / 1000, None, None, record.key, record.value, None, None, None, tp,
            generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _drain_messages(self, fetcher: Any) -> None:
        """As Faust's, without what it needs for acks."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                async for tp, message in self.getmany(_FETCH_S):
                    if self._is_free(tp):
                        await self.callback(message)
                    else:
                        await self.wait_first(self.callback(message), self.suspend_flow.wait())
                await asyncio.sleep(0)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    def _is_free(self, tp: TP) -> bool:
        """Whether a message of this partition can be handed on at once."""
        topics = self.app.topics
        return bool(
            self.app.flow_control.is_active()
            and not topics._tp_to_callback_lock.locked()
            and not any(channel.queue.full() for channel in topics._tp_index.get(tp, ()))
        )
