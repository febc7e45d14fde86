"""Items and their encoded texts, into the catalogue, in the order of the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.progress import ProgressReport, Report
from ranker.contracts.records import CandidateList, Interaction, Item, ItemVector, User
from ranker.items.catalog import Catalog, item_text, text_hash
from ranker.registry.encoder import TextEncoder

_TEXTS_AT_ONCE = 256


def described_items(
    records: Iterable[LogRecord], catalog: Catalog, encoder: TextEncoder, report: Report
) -> Iterator[Interaction | CandidateList | User]:
    """Puts items and their encoded texts into the catalogue, and hands everything else on."""
    for record in described_log(records, catalog, encoder, report):
        if not isinstance(record, Item):
            yield record


def described_log(
    records: Iterable[LogRecord], catalog: Catalog, encoder: TextEncoder | None, report: Report
) -> Iterator[LogRecord]:
    """The same, handing the items on too; without an encoder their texts stay unread."""
    waiting: list[Item] = []
    done = 0
    for record in chain(records, (None,)):
        if isinstance(record, Item):
            catalog.put(record)
            if encoder is not None and catalog.wants_vector(record, encoder.name):
                waiting.append(record)
        if encoder is not None and waiting and (len(waiting) >= _TEXTS_AT_ONCE or not isinstance(record, Item)):
            _encode(waiting, catalog, encoder)
            done += len(waiting)
            report(ProgressReport("items", done, 0))
            waiting.clear()
        if record is not None:
            yield record


def _encode(items: list[Item], catalog: Catalog, encoder: TextEncoder) -> None:
    vectors = encoder.encode([item_text(item) for item in items])
    for item, vector in zip(items, vectors, strict=True):
        catalog.put_vector(vector_record(item, vector, encoder.name))


def vector_record(item: Item, vector: np.ndarray, encoder: str) -> ItemVector:
    """An item's encoded text as it goes onto `item-vectors`."""
    return ItemVector(
        item_id=item.item_id,
        encoder=encoder,
        text_hash=text_hash(item_text(item)),
        vector=vector.astype("<f2").tobytes(),
    )
