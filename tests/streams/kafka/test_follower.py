"""Following topics on a real broker that goes away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from liverank.local.broker import start_broker
from streams.kafka.admin import create_topics
from streams.kafka.follower import Follower
from streams.settings import BrokerSettings


class Heard(logging.Handler):
    """Says when a line is logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.event, self._words = asyncio.Event(), words

    def emit(self, record: logging.LogRecord) -> None:
        """A line."""
        if self._words in record.getMessage():
            self.event.set()


async def test_it_stops_while_a_fetch_waits_for_a_broker_that_is_gone(tmp_path: Path) -> None:
    """aiokafka cancels that fetch and lets its end out, which must end nobody else: a worker stops in order."""
    heard, log = Heard("Failed fetch"), logging.getLogger("aiokafka.consumer.fetcher")
    with start_broker("kafka", tmp_path, heap_mb=256) as broker:
        settings, failed = BrokerSettings(addresses=broker.address, partitions=1), list[Any]()
        create_topics(settings)
        follower = Follower(settings, {"items": lambda record: None}, failed.append)
        await follower.start()
        log.addHandler(heard)
        try:
            await asyncio.to_thread(broker.kill)
            async with asyncio.timeout(60):
                await heard.event.wait()
            await asyncio.sleep(0)  # it waits now, before it fetches again
            await follower.stop()
        finally:
            log.removeHandler(heard)
        assert failed == []
