"""The catalogue as every worker follows it: `items` and `item-vectors`, in full."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import Item, ItemVector
from ranker.contracts.topics import ITEM_VECTORS, ITEMS
from ranker.items.catalog import Catalog
from streams.kafka.follower import Handle
from streams.kafka.position import position

log = logging.getLogger(__name__)


def catalog_handlers(catalog: Catalog, decoder: InputDecoder) -> dict[str, Handle]:
    """What keeps a catalogue up to date."""

    def item(record: Any) -> None:
        try:
            found = decoder(position(record), record.key, record.value, now_ms())
        except InvalidRecord:
            return  # whoever holds its partition sends the dead letter
        if found is None:
            catalog.withdraw(record.key.decode())
        else:
            assert isinstance(found, Item)
            catalog.put(found)

    def vector(record: Any) -> None:
        if record.value is None:
            return
        try:
            catalog.put_vector(msgspec.json.decode(record.value, type=ItemVector))
        except (msgspec.DecodeError, LiverankError) as error:
            log.warning("the vector at %s-%d:%d is left out: %s", record.topic, record.partition, record.offset, error)

    return {ITEMS: item, ITEM_VECTORS: vector}
