"""A topic that forgets faster than the trainer reads: it is told."""

from __future__ import annotations

from typing import NamedTuple

from online_learning.trainer.reading import missing


class Record(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


def test_what_the_broker_deleted_is_counted() -> None:
    """Before the first record and between two of them, each partition for itself; what is read anew is no gap."""
    records = [Record("examples", 0, 7), Record("examples", 0, 8), Record("examples", 1, 3), Record("examples", 0, 11)]
    assert missing({"examples-0": 5, "examples-1": 3}, records) == {"examples-0": 4}
    assert missing({}, records[:3]) == {}
    assert missing({"examples-1": 9}, records[2:3]) == {}
