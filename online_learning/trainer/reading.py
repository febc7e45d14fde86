"""The records that the trainer reads, each by itself: one that cannot be used is counted and left out.

What an input topic holds is decoded as workers do it, who send the dead letters.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from online_learning.trainer.metrics import TrainerMetrics
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder, Limits, decode_vector, decoded
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Erasure, Example, Item, ModelUpdate
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import ITEMS
from ranker.items.catalog import Catalog
from ranker.mapping.topic_map import TopicMap

log = logging.getLogger(__name__)

MOST_MESSAGE_BYTES = 8 << 20
#: The broker, the disk, the memory, and what was refused by name: no record's fault.
_FATAL = (LiverankError, KafkaError, OSError, MemoryError)
#: Records in a row that the code failed on, before it counts as broken and not they.
_MOST_FAILURES = 64

_example = msgspec.json.Decoder(Example)
_update = msgspec.json.Decoder(ModelUpdate)


class Reading:
    """Decodes records and uses them; only what is no record's fault gets out."""

    def __init__(
        self, metrics: TrainerMetrics, topics: TopicMap, model: str, schema: FeatureSchema | None = None
    ) -> None:
        """
        Args:
            metrics: counts what is left out.
            topics: what they are called, and how their records become ours.
            model: the name of the one that learns.
            schema: of the model; what there is before it is known needs none.
        """
        self._metrics, self._model = metrics, model
        self._limits = Limits(max_message_bytes=MOST_MESSAGE_BYTES)
        self._topics = topics
        self._decode = InputDecoder(schema or FeatureSchema(), self._limits, topics.translated)
        self._failures = 0

    def example(self, record: Any) -> Example | None:
        """The example; None where it is none, or lies in the future: what is learned counts as known until then.

        None, too, where another model of the installation ranked the list: its trainer learns from that.
        """
        found: list[Example] = []

        def take() -> None:
            example = decoded(_example, record.value or b"")
            if example.ts > now_ms() + self._limits.max_ahead_ms:
                raise InvalidRecord("future-timestamp", f"its ts is {example.ts}, which is yet to come")
            found.append(example)

        if not self._use(record, take):
            self._metrics.refused.labels("undecodable").inc()
        if found and found[0].model_name not in (None, self._model):
            self._metrics.refused.labels("other model").inc()
            return None
        return found[0] if found else None

    def erasure(self, record: Any, erase: Callable[[str, int], None]) -> None:
        """Erase a user up to a time, in milliseconds."""

        def take() -> None:
            erasure = self._input(record)
            assert isinstance(erasure, Erasure)
            assert erasure.ts is not None
            erase(erasure.user_id, erasure.ts)

        self._use(record, take)

    def update(self, record: Any, take: Callable[[ModelUpdate], None]) -> None:
        """Take what was announced."""
        self._use(record, lambda: take(decoded(_update, record.value or b"")))

    def item(self, record: Any, catalog: Catalog) -> None:
        """Keep what is known of an item, or its vector."""

        def take() -> None:
            if self._topics.own(record.topic) != ITEMS:
                if record.value is not None:
                    catalog.put_vector(decode_vector(record.value))
            elif (item := self._input(record)) is None:
                catalog.withdraw(record.key.decode())
            else:
                assert isinstance(item, Item)
                catalog.put(item)

        self._use(record, take)

    def _input(self, record: Any) -> object:
        stamped = record.timestamp is not None and record.timestamp >= 0
        ts = record.timestamp if stamped else now_ms()
        at = Position(self._topics.own(record.topic), record.partition, record.offset, ts, record.topic)
        return self._decode(at, record.key, record.value, now_ms())

    def _use(self, record: Any, take: Callable[[], None]) -> bool:
        """Whether the record was of use.

        Raises:
            Exception: what is no record's fault, or more failures in a row than records can be blamed for.
        """
        try:
            take()
        except InvalidRecord as why:
            log.warning("%s-%d:%d is left out: %s", record.topic, record.partition, record.offset, why)
        except _FATAL:
            raise
        except Exception as error:
            self._failures += 1
            if self._failures > _MOST_FAILURES:
                raise
            place = f"{record.topic}-{record.partition}:{record.offset}"
            log.error("%s is left out, and that is a fault of ours; please report it", place, exc_info=error)
        else:
            self._failures = 0
            return True
        self._metrics.set_aside.labels(record.topic).inc()
        return False


def missing(offsets: Mapping[str, int], records: Iterable[Any]) -> dict[str, int]:
    """Records that a topic no longer has: by `topic-partition`, how many offsets lie between those read and these.

    Args:
        offsets: `topic-partition` -> the offset after the last one read.
        records: read since, in the order of each partition.
    """
    expected, gone = dict(offsets), Counter[str]()
    for record in records:
        place = f"{record.topic}-{record.partition}"
        gone[place] += max(0, record.offset - expected.get(place, record.offset))
        expected[place] = record.offset + 1
    return {place: count for place, count in gone.items() if count}
