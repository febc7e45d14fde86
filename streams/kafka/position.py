"""Where a record of a topic stands, in the contracts' words."""

from __future__ import annotations

from typing import Any

from ranker.contracts.clock import now_ms
from ranker.contracts.inputs import Position
from ranker.mapping.topic_map import TopicMap


def position(record: Any, topics: TopicMap, topic_id: bytes = b"") -> Position:
    """Where a record stands. A message of a producer that sets no time gets this machine's.

    Args:
        record: a `FetchedRecord`, or one of aiokafka's.
        topics: what they are called here.
        topic_id: of its topic; see `streams.kafka.topic_ids`.
    """
    ts = record.timestamp if record.timestamp is not None and record.timestamp >= 0 else now_ms()
    return Position(topics.own(record.topic), record.partition, record.offset, ts, record.topic, topic_id)
