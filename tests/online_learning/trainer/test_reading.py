"""What the trainer reads: items by others' names, and a topic that forgets faster than it reads, which is told."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from online_learning.trainer.metrics import TrainerMetrics
from online_learning.trainer.reading import Reading, missing
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.items.catalog import Catalog
from ranker.mapping.topic_map import TopicMap, topic_map
from tests.support import stream


class Record(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int
    key: bytes = b""
    value: bytes | None = None
    timestamp: int = now_ms()


def test_what_the_broker_deleted_is_counted() -> None:
    """Before the first record and between two of them, each partition for itself; what is read anew is no gap."""
    records = [Record("examples", 0, 7), Record("examples", 0, 8), Record("examples", 1, 3), Record("examples", 0, 11)]
    assert missing({"examples-0": 5, "examples-1": 3}, records) == {"examples-0": 4}
    assert missing({}, records[:3]) == {}
    assert missing({"examples-1": 9}, records[2:3]) == {}


def test_items_of_a_topic_that_runs_already_are_known() -> None:
    """By its name and its fields, as to workers; a tombstone withdraws, and what does not fit is left out."""
    topics = topic_map({"items": {"name": "catalogue", "fields": {"item_id": "sku", "category": "shelf"}}}, "x")
    reading, catalog = Reading(TrainerMetrics(), topics, "shop"), Catalog(())
    reading.item(Record("catalogue", 0, 0, b"7", b'{"sku": 7, "shelf": "lamps"}'), catalog)
    reading.item(Record("catalogue", 0, 1, b"8", b'{"item_id": "8"}'), catalog)
    assert hash_id("7") in catalog.index_of
    assert hash_id("8") not in catalog.index_of


def test_examples_of_another_model_are_passed_over() -> None:
    """Two models rank on one installation, and each learns from its own lists; the reason is counted. What an earlier
    release's worker sent says nothing of its model, and is learned from.
    """
    metrics = TrainerMetrics()
    reading, (made,) = Reading(metrics, TopicMap(), "shop"), stream.examples(1)

    def read(**changes: object) -> bool:
        value = msgspec.json.encode(msgspec.structs.replace(made, **changes))
        return reading.example(Record("examples", 0, 0, value=value)) is not None

    assert read(model_name="shop")
    assert read(model_name=None)
    assert not read(model_name="hotels")
    counted = metrics.registry.get_sample_value
    assert counted("liverank_trainer_refused_total", {"reason": "other model"}) == 1
    assert counted("liverank_trainer_set_aside_total", {"topic": "examples"}) is None, "it is sound"
