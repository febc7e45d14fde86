"""The way of an input: decoded, folded into the user's row, queued for the scorer, attributed to a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import CandidateList, Erasure, Interaction, User
from ranker.contracts.topics import CANDIDATES, ERASURES, USERS
from ranker.registry.encoder import TextEncoder
from ranker.serving.slot import ModelSlot
from ranker.state.fold import apply_input
from ranker.state.row import UserRow
from ranker.state.words import EncodedText
from streams.kafka.admin import RECREATED_ADVICE, TopicError
from streams.kafka.connection import partition_of
from streams.kafka.faults import Faults
from streams.kafka.outbox import Outbox
from streams.kafka.position import position
from streams.kafka.progress import PartitionProgress
from streams.kafka.topic_ids import TopicIds
from streams.pipeline.batcher import Batcher
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.erasures import Erasures
from streams.pipeline.examples import Examples, LastRanking
from streams.pipeline.intake import Intake
from streams.pipeline.jobs import ForgetUser, Job, RankList, WakeUp
from streams.settings import WorkerSettings
from streams.state.cache import RowCache
from streams.state.store import DamagedStore
from streams.telemetry.metrics import Metrics
from streams.texts.typed import DecodedInput, TypedInputs

#: Records that may be unconfirmed before intake waits.
_MOST_UNCONFIRMED = 10_000
#: Inputs handled in one turn of the event loop.
_TURN = 32

_partition_of = lru_cache(1 << 16)(partition_of)


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
        erasures: Erasures,
        last: Callable[[str], Mapping[str, LastRanking]],
        topic_ids: TopicIds,
        since: Callable[[], int],
        encoder: TextEncoder | None,
        progress: PartitionProgress,
        failed: Callable[[BaseException], None],
    ) -> None:
        assert slot.current is not None
        self._partitions, self._topics = settings.broker.partitions, settings.broker.topics
        self._schema, self._rules = slot.current.schema, settings.rows
        translated = settings.broker.topics.translated
        self._names = settings.broker.row_names
        self._decode = InputDecoder(self._schema, settings.limits, translated, metrics.left_out)
        self._intake = intake
        self._rows = rows
        self._batcher = batcher
        self._dead_letters = dead_letters
        self._outbox = outbox
        self._metrics = metrics
        self._examples = examples
        self._erasures = erasures
        self._last = last
        self._topic_ids = topic_ids
        self._since = since  # when this worker got its partitions: the epoch of rows that it begins
        self._doubts: dict[str, TopicError] = {}
        self._faults = Faults()
        self._typed = TypedInputs(encoder, progress, self._apply_typed, failed, metrics)

    async def receive(self, message: Any) -> None:
        """Handle a chunk, as fast as the scorer and the broker take what comes of it."""
        records = self._intake.admitted(message)
        for number, record in enumerate(records, 1):
            at = position(record, self._topics, self._topic_ids.of(record.topic))
            try:
                self.handle(at, record.key, record.value)
                if at.topic == ERASURES and record.key:
                    await self._erasures.erased((at.partition, record.key))
            except DamagedStore:
                return  # the partition is recovered, and then the record comes again
            if at.topic == ERASURES and not self._intake.current(message):
                return
            self._intake.done(record)
            if number % _TURN == 0 or self._crowded:
                await self._pause()
                if not self._intake.current(message):
                    return
        self._metrics.events(message.topic, len(records))

    async def settled(self) -> None:
        """Wait until all that was handled before this call is ranked, and joined with what was shown."""
        newest = self._examples.newest
        await self._batcher.settled()
        while not self._examples.joined(newest):
            self.wake()
            await self._batcher.settled()

    async def close_windows(self) -> None:
        """Lists whose windows have closed without an input that says so: as many as there is room for."""
        while (due := self._examples.windows.due) and not self._crowded:
            try:
                if self._examples.passed(due[0], None, self._rows.get, self._last):
                    self.wake()
            except DamagedStore:
                return
            await asyncio.sleep(0)

    @property
    def _crowded(self) -> bool:
        waiting = self._batcher.full or self._examples.full or self._typed.full
        return waiting or len(self._outbox) > _MOST_UNCONFIRMED

    async def _pause(self) -> None:
        await asyncio.sleep(0)
        await self._batcher.room()
        await self._examples.room()
        await self._typed.room()
        await self._outbox.room(_MOST_UNCONFIRMED)

    def handle(self, at: Position, key: bytes | None, value: bytes | None) -> None:
        """The whole path of an input: decode, apply to the user's row, and rank the lists that the user looks at.

        One with a text goes on when that is encoded, and with it what must not overtake it.
        What this sends and changes is confirmed by the next checkpoint. An input that came before changes no row, and
        its ranking goes out again: a kill may have come between the row's write and the ranking's. One that this code
        fails on is a dead letter like one that is refused.

        Raises:
            Exception: what is no record's fault; see `Faults`.
        """
        try:
            record = self._decoded(at, key, value)
            assert key is not None
            given = DecodedInput(at, key, value, record)
            if not self._typed.take(given):
                self._apply(given, None)
        except Exception as error:
            self._dead_letters.send(at, key, value, self._faults.blamed(at, error))
        else:
            self._faults.sound()

    def let_go(self) -> None:
        """Partitions may have left: what waits comes again."""
        self._typed.clear()

    def close(self) -> None:
        """End the thread that encodes texts."""
        self._typed.close()

    def _apply_typed(self, given: DecodedInput, typed: EncodedText | None) -> None:
        """What has waited for its text, or behind one."""
        try:
            self._apply(given, typed)
        except Exception as error:
            self._dead_letters.send(given.at, given.key, given.value, self._faults.blamed(given.at, error))

    def _apply(self, given: DecodedInput, typed: EncodedText | None) -> None:
        at, key, value, record = given
        before, row = self._applied(at, key, record, typed)
        self._let_go(at, key, record, before, row)
        self._erasures.applied(at, key, before, record, row)
        self._rank(at, key, value, record, row)
        self._examples.applied((at.partition, key), before, record, row, self._last(record.user_id))
        if not row.current:
            self.wake()  # it may close a list that has ended, and there is nothing to rank beside which it is joined
        # A device whose clock is ahead must not close everybody's lists.
        ts = min(getattr(record, "ts", None) or at.ts, now_ms())
        if self._examples.passed(at.partition, ts, self._rows.get, self._last):
            self.wake()

    def doubts(self) -> dict[str, TopicError]:
        """Topics of which rows know records that they do not have, since the last call: what is wrong unless such a
        topic was made anew.
        """
        doubts, self._doubts = self._doubts, {}
        return doubts

    def wake(self) -> None:
        """Have the scorer thread look at what waits beside rankings."""
        self._batcher.add(WakeUp(), WakeUp())

    def _decoded(self, at: Position, key: bytes | None, value: bytes | None) -> UserInput:
        record = self._decode(at, key, value, now_ms())
        assert key is not None
        assert isinstance(record, UserInput)
        if at.partition != _partition_of(key, self._partitions):
            self._metrics.foreign(at.broker_topic)
        return record

    def _applied(
        self, at: Position, key: bytes, record: UserInput, typed: EncodedText | None
    ) -> tuple[UserRow, UserRow]:
        place = at.partition, key
        before = self._rows.get(place)
        if not before.revision and not before.epoch:
            # Not the present: who has lost the partition without noticing would begin rows later than its new owner.
            before = msgspec.structs.replace(before, epoch=self._since())
        after = apply_input(before, record, at, self._schema, self._rules, typed)
        if after is not before:
            self._rows.put(place, after)
        elif before.applied[at.broker_topic] >= (end := self._intake.end(at)):
            self._doubts[at.broker_topic] = TopicError(
                f"{at.broker_topic}-{at.partition} ends at {end}, but the row of {self._names.shown(key)!r} knows of "
                f"its record {before.applied[at.broker_topic]}: the topic was created anew, or its broker lost "
                f"records. {RECREATED_ADVICE}"
            )
            if not before.topics.get(at.broker_topic) or not at.topic_id:
                raise self._doubts[at.broker_topic]
        return before, after

    def _let_go(self, at: Position, key: bytes, record: UserInput, before: UserRow, row: UserRow) -> None:
        """What waits for a list that left is not ranked any more, nor what is older than an erasure."""
        erased = isinstance(record, Erasure)
        for listed in before.current if erased or row.lists is not before.lists else ():
            if erased or row.named(listed.request_id) is None:
                self._batcher.discard((at.partition, key, listed.request_id))
        if erased:
            self._batcher.add(ForgetUser(key), ForgetUser(key))

    def _rank(self, at: Position, key: bytes, value: bytes | None, record: UserInput, row: UserRow) -> None:
        """Each current list is ranked again, so that the last ranking of each knows of all."""
        event_id = record.event_id if isinstance(record, Interaction) else None
        for listed in row.current:
            # By partition too: where producers spread keys differently, a key has a row in each.
            place = at.partition, key, listed.request_id
            self._batcher.add(place, RankList(key, row.of(listed), at, _kind(record), event_id, value))


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
