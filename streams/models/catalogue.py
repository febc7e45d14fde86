"""The catalogue as every worker follows it: `items` and `item-vectors`, in full."""

from __future__ import annotations

from typing import Any

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder, decode_vector
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import Item
from ranker.contracts.topics import ITEM_VECTORS, ITEMS
from ranker.items.catalog import Catalog
from ranker.mapping.topic_map import TopicMap
from streams.kafka.follower import Handle
from streams.kafka.position import position


def catalog_handlers(catalog: Catalog, decoder: InputDecoder, topics: TopicMap) -> dict[str, Handle]:
    """What keeps a catalogue up to date. A vector that cannot be used is an `InvalidRecord`."""

    def item(record: Any) -> None:
        try:
            found = decoder(position(record, topics), record.key, record.value, now_ms())
        except InvalidRecord:
            return  # whoever holds its partition sends the dead letter
        if found is None:
            catalog.withdraw(record.key.decode())
        else:
            assert isinstance(found, Item)
            catalog.put(found)

    def vector(record: Any) -> None:
        if record.value is not None:
            catalog.put_vector(decode_vector(record.value))

    return {ITEMS: item, ITEM_VECTORS: vector}
