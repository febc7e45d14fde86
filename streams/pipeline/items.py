"""The catalogue's inputs: each is checked once in the whole group, and its text encoded once.

Every worker follows `items` and `item-vectors` in full (`streams.kafka.follower`); what is done here is done by the one
worker that holds the item's partition.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import Item, ItemVector
from ranker.contracts.topics import ITEM_VECTORS
from ranker.items.catalog import Catalog, item_text, text_hash
from ranker.registry.encoder import TextEncoder
from streams.kafka.outbox import Outbox
from streams.kafka.position import position
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.intake import Intake
from streams.telemetry.metrics import Metrics


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
    ) -> None:
        self._decode = decoder
        self._catalog = catalog
        self._encoder = encoder
        self._intake = intake
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    async def receive(self, message: Any) -> None:
        """Handle a chunk: dead letters for what is wrong, vectors for the texts that have none yet."""
        records = self._intake.admitted(message)
        items = [item for record in records if (item := self._checked(record)) is not None]
        if self._encoder is not None:
            wanted = [item for item in items if self._catalog.wants_vector(item, self._encoder.name)]
            await self._encode(self._encoder, wanted)
        if not self._intake.current(message):
            return
        for record in records:
            self._intake.done(record)
        self._metrics.events(message.topic, len(records))

    def close(self) -> None:
        """End the thread after the texts in work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _checked(self, record: Any) -> Item | None:
        at = position(record)
        try:
            item = self._decode(at, record.key, record.value, now_ms())
        except InvalidRecord as why:
            self._dead_letters.send(at, record.key, record.value, why)
            return None
        assert item is None or isinstance(item, Item)
        return item

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
