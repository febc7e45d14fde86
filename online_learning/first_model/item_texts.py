"""Items and their encoded texts, into the catalogue, in the order of the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.progress import ProgressReport, Report
from ranker.contracts.records import CandidateList, Interaction, Item, ItemVector
from ranker.items.catalog import Catalog, item_text, text_hash
from ranker.registry.encoder import TextEncoder

_TEXTS_AT_ONCE = 256


def described_items(
    records: Iterable[LogRecord], catalog: Catalog, encoder: TextEncoder, report: Report
) -> Iterator[Interaction | CandidateList]:
    """Puts items and their encoded texts into the catalogue, and hands everything else on."""
    waiting: list[Item] = []
    done = 0

    def encode() -> None:
        nonlocal done
        vectors = encoder.encode([item_text(item) for item in waiting])
        for item, vector in zip(waiting, vectors, strict=True):
            catalog.put_vector(vector_record(item, vector, encoder.name))
        done += len(waiting)
        report(ProgressReport("items", done, 0))
        waiting.clear()

    for record in records:
        if isinstance(record, Item):
            catalog.put(record)
            if catalog.wants_vector(record, encoder.name):
                waiting.append(record)
            if len(waiting) >= _TEXTS_AT_ONCE:
                encode()
            continue
        if waiting:
            encode()
        yield record


def vector_record(item: Item, vector: np.ndarray, encoder: str) -> ItemVector:
    """An item's encoded text as it goes onto `item-vectors`."""
    return ItemVector(
        item_id=item.item_id,
        encoder=encoder,
        text_hash=text_hash(item_text(item)),
        vector=vector.astype("<f2").tobytes(),
    )
