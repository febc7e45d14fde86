"""Which records of a chunk are next in line, each once while its partition stays."""

from __future__ import annotations

from typing import Any

from faust.types import TP

from ranker.contracts.inputs import Position
from streams.kafka.consuming.consumer import Chunk
from streams.kafka.progress import PartitionProgress
from streams.telemetry.metrics import Metrics


class Intake:
    """Hands out the records of a topic's chunks, each once while its partition stays, and notes which are done.

    In every pause of a chunk its partition may leave; the rest must then not be handled here. `current` says so.
    """

    def __init__(self, app: Any, progress: PartitionProgress, metrics: Metrics) -> None:
        """
        Args:
            app: the Faust app: its consumer goes back where records are missing, its generation names the assignment.
            progress: what was handled.
            metrics: counts holes and gaps.
        """
        self._app = app
        self._restarts: dict[str, int] = {}  # by topic, when its chunk in work was admitted
        self._progress = progress
        self._metrics = metrics

    def current(self, message: Any) -> bool:
        """Whether the message's partition is still, or again, what it was when it was fetched."""
        app = self._app
        same = self._restarts.get(message.topic) == self._progress.restarts
        return bool(same and app.flow_control.is_active() and message.generation_id == app.consumer_generation_id)

    def admitted(self, message: Any) -> list[Any]:
        """The chunk's records that are next in line; none, and a rewind, where records before them are missing."""
        place, chunk = (message.topic, message.partition), message.value
        assert isinstance(chunk, Chunk)
        self._restarts[message.topic] = self._progress.restarts
        expected = self._progress.expected(place)
        if expected is None:
            return []  # it comes again once the committed offset is known
        if chunk.covered_from > expected:
            self._metrics.hole(message.topic)
            self._app.consumer.rewind(message.topic, message.partition, expected)
            return []
        records = [record for record in chunk.records if record.offset >= expected]
        if records and records[-1].offset - expected >= len(records):
            self._metrics.gap(message.topic)
        return records

    def end(self, at: Position) -> int:
        """Where the partition of a record ended when it was last fetched from."""
        return int(self._app.consumer.highwater(TP(at.broker_topic, at.partition)))

    def done(self, record: Any) -> None:
        """The record's effects are on their way."""
        self._progress.done((record.topic, record.partition), record.offset)
