"""Follows topics in full, from their beginning and on, outside the consumer group: each worker reads all.

At least once and in order by key, which is enough: what is kept of a key is its newest record. Of transactions those
that were committed are read, and an end is where the oldest open one begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka

from streams.kafka import connection
from streams.kafka.faults import Faults
from streams.kafka.position import position
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

Handle = Callable[[Any], None]

_POLL_MS = 500
#: How long aiokafka waits until it looks around while nothing comes; what comes is there at once.
_REST_MS = 5000


class Follower:
    """Reads topics to their end, then follows them. A handler gets each of aiokafka's records of its topic."""

    def __init__(
        self,
        settings: BrokerSettings,
        handlers: Mapping[str, Handle],
        failed: Callable[[BaseException], None],
        since_ms: int | None = None,
        set_aside: Callable[[str], None] = lambda topic: None,
    ) -> None:
        """
        Args:
            settings: where the broker is.
            handlers: our topic -> what to do with a record. One that it fails on is set aside, see `Faults`.
            failed: takes what ended the following.
            since_ms: leave out what is older than this time; None reads from the beginning.
            set_aside: hears of the topic of each record that is set aside.
        """
        self._settings = settings
        self._handlers = handlers
        self._failed = failed
        self._since_ms = since_ms
        self._set_aside = set_aside
        self._faults = Faults()
        self._consumer = aiokafka.AIOKafkaConsumer(
            *(settings.topics.called(topic) for topic in handlers),
            **connection.aiokafka_reader(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=connection.MAX_MESSAGE_BYTES,
            consumer_timeout_ms=_REST_MS,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything that the topics hold now, then go on in the background."""
        await self._consumer.start()
        partitions = self._consumer.assignment()
        if self._since_ms is not None:
            await self._skip(self._since_ms)
        for partition, end in (await self._consumer.end_offsets(partitions)).items():
            while await self._consumer.position(partition) < end:
                await self._take()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(asyncio.CancelledError):  # aiokafka lets out that it ends a fetch that waits
            await self._consumer.stop()

    async def _skip(self, since_ms: int) -> None:
        """Go to the first record of a time."""
        places = self._consumer.assignment()
        for place, found in (await self._consumer.offsets_for_times(dict.fromkeys(places, since_ms))).items():
            if found is None:
                await self._consumer.seek_to_end(place)
            else:
                self._consumer.seek(place, found.offset)

    async def _follow(self) -> None:
        try:
            while True:
                await self._take(_REST_MS)
        except Exception as error:
            self._failed(error)

    async def _take(self, within_ms: int = _POLL_MS) -> None:
        fetched = await self._consumer.getmany(timeout_ms=within_ms, max_records=500)
        for records in fetched.values():
            for record in records:
                self._handle(record)
            await asyncio.sleep(0)

    def _handle(self, record: Any) -> None:
        topics = self._settings.topics
        try:
            self._handlers[topics.own(record.topic)](record)
        except Exception as error:
            at = position(record, topics)
            why = self._faults.blamed(at, error)
            self._set_aside(at.broker_topic)
            log.warning("the record at %s is set aside: %s", at.place, why)
        else:
            self._faults.sound()
