"""What the page knows of items: the newest of the catalogue, in bounded memory, and the lists that it draws of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from random import Random
from typing import Any

from msgspec import Struct

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import Candidate, FeatureValue, Item
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import ITEMS
from ranker.mapping.topic_map import TopicMap
from streams.kafka.follower import Follower, Handle
from streams.kafka.position import position
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

_AGAIN_S = 5.0  # until items are followed again after that has failed
#: What an item's number has to be called to be shown as its price.
_PRICES = ("price", "price_eur", "price_usd", "amount")


class ShownItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item as the page shows it, and as a candidate of a list."""

    candidate: Candidate
    title: str
    category: str = ""
    price: float | None = None


class KnownItems:
    """The items that were described last. One thread writes and reads."""

    def __init__(self, most: int) -> None:
        """
        Args:
            most: of several more the ones described first are forgotten.
        """
        self._most = most
        self._items: dict[str, Item] = {}
        self.read = False  # whether all that the topic held at the start is known

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Take in an item, or what is said of it anew."""
        self._items.pop(item.item_id, None)
        self._items[item.item_id] = item
        if len(self._items) > self._most:
            del self._items[next(iter(self._items))]

    def withdraw(self, item_id: str) -> None:
        """Forget an item."""
        self._items.pop(item_id, None)

    def drawn(self, length: int, random: Random, features: Iterable[str] = ()) -> list[ShownItem]:
        """A list of different items; shorter where there are not so many.

        Args:
            length: of the list.
            random: draws.
            features: numbers of an item that go into the list with it.
        """
        chosen = random.sample(list(self._items), min(length, len(self._items)))
        named = tuple(features)
        return [shown_item(self._items[item], named) for item in chosen]


def shown_item(item: Item, features: Iterable[str]) -> ShownItem:
    """An item as the page shows it: by its title, or its id where it has none.

    Args:
        item: as the catalogue has it.
        features: those of its numbers that a candidate carries.
    """
    numeric = item.numeric or {}
    given: dict[str, FeatureValue] = {name: numeric[name] for name in features if name in numeric}
    return ShownItem(
        candidate=Candidate(item_id=item.item_id, features=given or None),
        title=item.title or item.item_id,
        category=item.category or "",
        price=next((numeric[name] for name in _PRICES if name in numeric), None),
    )


def items_handler(known: KnownItems, decoder: InputDecoder, topics: TopicMap) -> Handle:
    """What keeps items up to date with their topic; a record that is none is the worker's to tell of."""

    def take(record: Any) -> None:
        try:
            found = decoder(position(record, topics), record.key, record.value, now_ms())
        except InvalidRecord:
            return
        if isinstance(found, Item):
            known.put(found)
        elif found is None:
            known.withdraw(record.key.decode())

    return take


async def follow_items(settings: BrokerSettings, known: KnownItems) -> None:
    """Read the catalogue and follow it until cancelled; what is known stays where the broker is away."""
    decoder = InputDecoder(FeatureSchema(), translated=settings.topics.translated)
    handlers = {ITEMS: items_handler(known, decoder, settings.topics)}
    while True:
        ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        follower = Follower(settings, handlers, ended.set_result)
        try:
            await follower.start()
            known.read = True
            failed = await ended
        except Exception as error:
            failed = error
        finally:
            await follower.stop()
        log.warning("items are not followed (%s); again in %.0f s", failed, _AGAIN_S)
        await asyncio.sleep(_AGAIN_S)
