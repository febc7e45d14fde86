"""The catalogue's inputs: each is checked once in the whole group, and its text encoded once.

Every worker follows `items` and `item-vectors` in full (`streams.kafka.follower`); what is done here is done by the one
worker that holds the item's partition.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.records import Item, ItemVector
from ranker.contracts.topics import ITEM_VECTORS
from ranker.items.catalog import Catalog, item_text, text_hash
from ranker.mapping.topic_map import TopicMap
from ranker.registry.encoder import TextEncoder
from streams.kafka.faults import FATAL, Faults
from streams.kafka.outbox import Outbox
from streams.kafka.position import position
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.intake import Intake
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class ItemHandler:
    """Checks items and has their texts encoded, on a thread of its own."""

    def __init__(
        self,
        *,
        decoder: InputDecoder,
        catalog: Catalog,
        encoder: TextEncoder | None,
        intake: Intake,
        dead_letters: DeadLetters,
        outbox: Outbox,
        metrics: Metrics,
        topics: TopicMap,
    ) -> None:
        self._decode = decoder
        self._topics = topics
        self._catalog = catalog
        self._encoder = encoder
        self._intake = intake
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._metrics = metrics
        self._faults = Faults()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    async def receive(self, message: Any) -> None:
        """Handle a chunk: dead letters for what is wrong, vectors for the texts that have none yet."""
        records = self._intake.admitted(message)
        checked = [(record, self._checked(record)) for record in records]
        if (encoder := self._encoder) is not None:
            await self._encode_all(
                encoder, [(record, item) for record, item in checked if item and self._wanted(item, encoder)]
            )
        if not self._intake.current(message):
            return
        for record in records:
            self._intake.done(record)
        self._metrics.events(message.topic, len(records))

    def close(self) -> None:
        """End the thread after the texts in work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _checked(self, record: Any) -> Item | None:
        at = position(record, self._topics)
        try:
            item = self._decode(at, record.key, record.value, now_ms())
        except Exception as error:
            self._refuse(record, error)
            return None
        self._faults.sound()
        assert item is None or isinstance(item, Item)
        return item

    def _wanted(self, item: Item, encoder: TextEncoder) -> bool:
        return self._catalog.wants_vector(item, encoder.name)

    def _refuse(self, record: Any, error: Exception) -> None:
        at = position(record, self._topics)
        self._dead_letters.send(at, record.key, record.value, self._faults.blamed(at, error))

    async def _encode_all(self, encoder: TextEncoder, wanted: list[tuple[Any, Item]]) -> None:
        """Encode these items' texts, together; where that fails one by one, so that each costs itself alone."""
        try:
            await self._encode(encoder, [item for _, item in wanted])
        except FATAL:
            raise
        except Exception:
            log.exception("the texts of %d items cannot be encoded; trying them one by one", len(wanted))
            for record, item in wanted:
                try:
                    await self._encode(encoder, [item])
                except Exception as error:
                    self._refuse(record, error)

    async def _encode(self, encoder: TextEncoder, items: list[Item]) -> None:
        if not items:
            return
        texts = [item_text(item) for item in items]
        loop = asyncio.get_running_loop()
        vectors: np.ndarray = await loop.run_in_executor(self._thread, encoder.encode, texts)
        for item, text, vector in zip(items, texts, vectors.astype("<f2"), strict=True):
            encoded = ItemVector(
                item_id=item.item_id, encoder=encoder.name, text_hash=text_hash(text), vector=vector.tobytes()
            )
            self._outbox.send(ITEM_VECTORS, item.item_id.encode(), msgspec.json.encode(encoded))
