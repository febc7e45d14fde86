"""The path of an input, from the message's bytes to the scorer's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import time
from typing import Any

from faust.types import TP

from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import CandidateList, Erasure, Interaction, User
from ranker.contracts.topics import CANDIDATES, ERASURES, USERS
from ranker.serving.slot import ModelSlot
from ranker.state.fold import apply_input
from ranker.state.row import UserRow
from streams.kafka.admin import RECREATED_ADVICE, TopicError
from streams.kafka.connection import partition_of
from streams.kafka.consumer import Chunk
from streams.kafka.outbox import Outbox
from streams.kafka.progress import PartitionProgress
from streams.pipeline.batcher import Batcher
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.examples import Examples, LastRanking
from streams.pipeline.rankings import Job
from streams.settings import WorkerSettings
from streams.state.store import RowCache
from streams.telemetry.metrics import Metrics

#: Records that may be unconfirmed before intake waits.
_MOST_UNCONFIRMED = 10_000
#: Inputs handled in one turn of the event loop.
_TURN = 32

_WAKE = Job(b"", None, Position("", 0, 0, 0), "")

_partition_of = lru_cache(1 << 16)(partition_of)


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
        self._progress = progress
        self._metrics = metrics

    def current(self, message: Any) -> bool:
        """Whether the message's partition is still, or again, what it was when it was fetched."""
        app = self._app
        return bool(app.flow_control.is_active() and message.generation_id == app.consumer_generation_id)

    def admitted(self, message: Any) -> list[Any]:
        """The chunk's records that are next in line; none, and a rewind, where records before them are missing."""
        place, chunk = (message.topic, message.partition), message.value
        assert isinstance(chunk, Chunk)
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
        return int(self._app.consumer.highwater(TP(at.topic, at.partition)))

    def done(self, record: Any) -> None:
        """The record's effects are on their way."""
        self._progress.done((record.topic, record.partition), record.offset)


def position(record: Any) -> Position:
    """Where one of aiokafka's records stands. A message of a producer that sets no time gets this machine's."""
    stamped = record.timestamp is not None and record.timestamp >= 0
    return Position(record.topic, record.partition, record.offset, record.timestamp if stamped else int(time() * 1000))


class InputHandler:
    """Handles the inputs of all user-keyed topics. Belongs to the event loop."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        slot: ModelSlot,
        intake: Intake,
        rows: RowCache,
        batcher: Batcher[Job],
        dead_letters: DeadLetters,
        outbox: Outbox,
        metrics: Metrics,
        examples: Examples,
        last: Callable[[str], LastRanking | None],
    ) -> None:
        assert slot.current is not None
        self._partitions = settings.broker.partitions
        self._schema = slot.current.schema
        self._decode = InputDecoder(self._schema, settings.limits)
        self._intake = intake
        self._rows = rows
        self._batcher = batcher
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._metrics = metrics
        self._examples = examples
        self._last = last

    async def receive(self, message: Any) -> None:
        """Handle a chunk, as fast as the scorer and the broker take what comes of it."""
        records = self._intake.admitted(message)
        for number, record in enumerate(records, 1):
            self.handle(position(record), record.key, record.value)
            self._intake.done(record)
            if number % _TURN == 0 or self._batcher.full or len(self._outbox) > _MOST_UNCONFIRMED:
                await self._pause()
                if not self._intake.current(message):
                    return
        self._metrics.events(message.topic, len(records))

    async def _pause(self) -> None:
        await asyncio.sleep(0)
        await self._batcher.room()
        await self._outbox.room(_MOST_UNCONFIRMED)

    def handle(self, at: Position, key: bytes | None, value: bytes | None) -> None:
        """The whole path of an input: decode, apply to the user's row, and rank where the user looks at a list.

        What this sends and changes is confirmed by the next checkpoint. An input that came before changes no row, and
        its ranking goes out again: a kill may have come between the row's write and the ranking's.
        """
        try:
            record = self._decoded(at, key, value)
        except InvalidRecord as why:
            self._dead_letters.send(at, key, value, why)
            return
        assert key is not None
        before, row = self._applied(at, key, record)
        if isinstance(record, Erasure):
            self._forget(at, key)
        if row.candidates is not None:
            self._rank(at, key, value, record, row)
        self._examples.applied((at.partition, key), before, record, row, self._last(record.user_id))
        # A device whose clock is ahead must not close everybody's lists.
        ts = min(getattr(record, "ts", None) or at.ts, int(time() * 1000))
        if self._examples.passed(at.partition, ts, self._rows.get, self._last):
            self.wake()

    def wake(self) -> None:
        """Have the scorer thread look at what waits beside rankings."""
        self._batcher.add(b"", _WAKE)

    def _decoded(self, at: Position, key: bytes | None, value: bytes | None) -> UserInput:
        record = self._decode(at, key, value, int(time() * 1000))
        assert key is not None
        assert isinstance(record, UserInput)
        if at.partition != _partition_of(key, self._partitions):
            self._metrics.foreign(at.topic)
        return record

    def _applied(self, at: Position, key: bytes, record: UserInput) -> tuple[UserRow, UserRow]:
        place = at.partition, key
        before = self._rows.get(place)
        after = apply_input(before, record, at, self._schema)
        if after is not before:
            self._rows.put(place, after)
        elif before.applied[at.topic] >= (end := self._intake.end(at)):
            raise TopicError(
                f"{at.topic}-{at.partition} ends at {end}, but the row of {key.decode()!r} knows of its record "
                f"{before.applied[at.topic]}: the topic was created anew. {RECREATED_ADVICE}"
            )
        return before, after

    def _rank(self, at: Position, key: bytes, value: bytes | None, record: UserInput, row: UserRow) -> None:
        event_id = record.event_id if isinstance(record, Interaction) else None
        self._batcher.add(_line(at, key), Job(key, row, at, _kind(record), event_id, value))

    def _forget(self, at: Position, key: bytes) -> None:
        self._batcher.discard(_line(at, key))
        self._batcher.add(b"forget " + key, Job(key, None, at, ERASURES))


def _line(at: Position, key: bytes) -> bytes:
    """A user's place in the line. Where producers spread keys differently, a key has a row in each partition."""
    return b"%d %b" % (at.partition, key)


def _kind(record: UserInput) -> str:
    match record:
        case Interaction():
            return record.action or ""
        case CandidateList():
            return CANDIDATES
        case User():
            return USERS
        case Erasure():
            return ERASURES
