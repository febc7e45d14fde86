"""Faust's consumer, of which each chunk of records is one message, and which can go back and lose nothing.

What it does otherwise than Faust, beside what `FetchedConsumer` does:

* Faust pays for its stream, queue and event by the record. Handing on the fetched records of a partition as one message
  makes that a price by the fetch.
* Faust drops records at rebalances and takes the hole for a gap in the topic. Here each chunk says what it covers, so
  `PartitionProgress`, which goes by what was handled, finds the hole, and `rewind` closes it.
* Faust commits what is acked, and acks what it skips. Here the topics are read without acks (`acks=False`), and a
  checkpoint commits the offsets that it has covered, in the generation with which their partitions came (`membership`).
* Faust looks again after a second where all partitions are paused, as in a rebalance. Here that second is 20 ms.
* Faust reads what transactions send before they are committed, unless its own are on. Here an aborted one never
  happened. It leaves offsets without a record, and so does a transaction's marker: where no record follows them,
  `pass_markers` counts them as handled, so that a partition can be read to its end.
* Faust goes on at the committed offset, whatever topic has it now. Here the topic's id is committed with it, as its
  metadata, and a topic with another id is read from its beginning.
* Faust takes the end of a changelog when it asks, and waits for the record before it. Here the end is that at which no
  earlier owner can add anything (`settled`), and where a marker stands there, `changelog_read` says that it was passed.
  And it hands on what a fetch brings, also one that was under way when a recovery sought: then the first records after
  the seek may be those of another place. Here that is fetched again, and each record says what it follows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from msgspec import Struct

from streams.kafka.admin import RECREATED_ADVICE, TopicError
from streams.kafka.consuming.faust_consumer import FetchedConsumer
from streams.kafka.consuming.fetching import FetchedRecord
from streams.kafka.progress import PartitionProgress, Place
from streams.kafka.settled import SettledEnds
from streams.kafka.topic_ids import TopicIds
from streams.kafka.transactions import Membership

log = logging.getLogger(__name__)

#: Records handed on at once.
CHUNK = 64
_MARKS_EVERY_S = 0.5  # between two looks for offsets without a record
_PAUSED_S = 0.02  # between two looks whether there is a partition to fetch from
_RECOVERING_S = 0.1  # of a fetch while rows are recovered: the next one sees that a marker was passed


class Chunk(Struct, frozen=True):
    """Consecutive records of a partition: every one that the topic has from `covered_from` on to the last of them."""

    covered_from: int
    records: list[FetchedRecord]


class ChangelogRead(Struct):
    """What was handed on of a changelog partition since it was sought, without a gap, in one generation."""

    generation: int
    start: int  # nothing was left out from here
    end: int  # to here
    newest: int = -1  # the newest record's offset among it


class ChunkConsumer(FetchedConsumer):
    """The consumer of an `WorkerApp`: the value of each message of an input topic is a `Chunk`."""

    #: As what this worker got its partitions last; None where the group had let go of it by then.
    joined: Membership | None = None
    #: As what it holds those that it has now; None where it has none.
    membership: Membership | None = None

    _sought = False  # whether the next `_go_back` seeks every partition
    _settled = False  # whether all that was fetched since then was handed on, or sought again
    _marks_due = 0.0  # by the monotonic clock
    _fetched = False  # whether the last fetch brought anything
    _seeks = 0  # of changelogs

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress: PartitionProgress = self.app.progress
        self._topic_ids: TopicIds = self.app.topic_ids
        self._settled_ends: SettledEnds = self.app.settled_ends
        self._position: dict[TP, int] = {}  # from where on the next fetched records cover theirs
        self._rewinds: dict[TP, int] = {}
        self._waiting: dict[TP, int] = {}  # where nothing arrived when last looked at: the next offset in line
        self._changelogs: dict[TP, ChangelogRead] = {}

    def pass_markers(self) -> None:
        """Count offsets as handled at which a partition has nothing to read: the markers of transactions, and aborted
        ones. To be called where nothing that was taken is on its way; a record that was dropped forbids it.
        """
        if not self._settled or self._rewinds or monotonic() < self._marks_due:
            return
        self._marks_due = monotonic() + _MARKS_EVERY_S
        for tp, known in list(self._position.items()):
            read_to = self.records.position(tp)
            if read_to is not None and read_to > known and self.progress.expected((tp.topic, tp.partition)) == known:
                self._position[tp] = read_to
                self.progress.done((tp.topic, tp.partition), read_to - 1)

    def rewind(self, topic: str, partition: int, offset: int) -> None:
        """Fetch this partition again from an offset, before the next chunk is handed on."""
        tp = TP(topic, partition)
        if self._rewinds.get(tp) != offset:
            log.warning("%s-%d: records were lost on the way from the consumer; reading again from %d", *tp, offset)
        self._rewinds[tp] = offset
        self.records.wake()

    def rewind_lost(self, idle: Callable[[str], bool]) -> None:
        """Go back where records were handed on and had not arrived when last looked at, nor now.

        A hole is otherwise found only by the next record after it, which may be long in coming. A rewind too many
        costs a fetch.

        Args:
            idle: whether a topic's agent has nothing to do.
        """
        waiting = {}
        for tp, position in self._position.items():
            expected = self.progress.expected((tp.topic, tp.partition))
            if expected is not None and expected < position and idle(tp.topic):
                waiting[tp] = expected
                if self._waiting.get(tp) == expected:
                    self.rewind(tp.topic, tp.partition, expected)
        self._waiting = waiting

    def to_commit(self, offsets: Mapping[Place, int]) -> dict[Place, tuple[int, str]]:
        """Where reading goes on, each with the topic's id as its metadata."""
        return {place: (at, self._topic_ids.of(place[0]).hex()) for place, at in offsets.items()}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """As Faust's; of changelog partitions the ends that nobody else can move any more.

        Raises:
            UnsettledError: the broker does not say.
        """
        rows = [tp for tp in partitions if self._is_changelog_tp(tp)]
        for tp in rows:
            self._changelogs.pop(tp, None)
        ends = dict(await super().highwaters(*(set(partitions) - set(rows)))) if len(rows) < len(partitions) else {}
        if rows:
            inputs = [(tp.topic, tp.partition) for tp in self.assignment() if not self._is_changelog_tp(tp)]
            settled = await self._settled_ends.of(inputs, [(tp.topic, tp.partition) for tp in rows])
            ends |= {TP(*place): end for place, end in settled.items()}
        return ends

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """As Faust's, which seeks changelogs so: what comes from now on begins there.

        Raises:
            IllegalStateError: one of them has left.
        """
        if not partitions.keys() <= self.assignment():
            raise IllegalStateError("partitions have left that are to be sought")
        self.records.seek(partitions)
        self._seeks += 1
        for tp, offset in partitions.items():
            if self._begin(tp, offset):
                self._rewinds.pop(tp, None)  # to where an earlier recovery was

    def changelog_read(self, tp: TP) -> ChangelogRead | None:
        """What was handed on of a changelog partition; None where that is not known."""
        read = self._changelogs.get(tp)
        return read if read is not None and read.generation == self.app.consumer_generation_id else None

    def forget_partitions(self) -> None:
        """All partitions may have left."""
        for known in (self._position, self._rewinds, self._waiting, self._changelogs):
            known.clear()
        self.records.keep(())
        self._settled = self._sought = False
        self.membership = None

    async def perform_seek(self) -> None:
        """Look up the committed offsets, tell `PartitionProgress` what is next in line, and have `getmany` go there.

        Faust calls this once rows are recovered: changelogs are not read any more.
        """
        inputs = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        committed = await self._committed(inputs)
        await self._refuse_recreated(committed)
        self.records.keep(inputs)
        self._rewinds.update(committed)
        self._sought = True
        self.progress.start({(tp.topic, tp.partition): offset for tp, offset in committed.items()})
        self.records.wake()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 (Faust's signature)
        """Chunks of the next fetched records. Changelog records stay single: Faust's recovery counts them.

        Records that are dropped since their partitions may have left need no seek: `perform_seek` follows.
        """
        if self._rewinds and self.flow_active:
            self._go_back({})
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        if not self._get_active_partitions():
            # All are paused by a rebalance, or their agents have enough to do. Faust looks again after a second.
            await asyncio.sleep(_PAUSED_S)
            return
        self.pass_markers()
        if self.app.in_recovery:
            timeout = self._recovering(timeout)
        settled, self._settled = self._settled, False  # until what is fetched now was handed on
        generation, seeks = self.app.consumer_generation_id, self._seeks
        records, active = await self._wait_next_records(timeout)
        self._fetched = bool(records)
        if not self._handed_on(records or (), generation, seeks):
            return
        if self._rewinds:
            self._go_back({tp: found[0].offset for tp, found in (records or {}).items()})
            self._settled = self._settled or settled
            return
        dropped: dict[TP, int] = {}
        for tp, found in (records or {}).items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                if not self._is_changelog_tp(tp):  # a recovery seeks for itself
                    dropped[tp] = found[0].offset
                continue
            for message in self._messages(tp, found, generation):
                if not self._goes_on(generation):
                    self._left_out(records or ())
                    return
                yield tp, message
        if dropped:
            self._go_back(dropped)
        self._settled = self._settled or settled

    def read_anew(self, topic: str) -> None:
        """The topic was deleted and made anew: what this worker has of it is read from its beginning."""
        for tp in self.assignment():
            if tp.topic == topic and not self._is_changelog_tp(tp):
                log.warning("%s was deleted and made anew: %s-%d is read from its beginning", topic, *tp)
                self.progress.restart((tp.topic, tp.partition))
                self._rewinds[tp] = 0
                self.records.seek({tp: 0})
        self.records.renew()

    def lacks(self, topics: Iterable[str]) -> bool:
        """Whether a topic was not there when the partitions were asked for last, as one that is being made anew."""
        cluster = self._thread._ensure_consumer()._client.cluster
        return any(not cluster.partitions_for_topic(topic) for topic in topics)

    async def refresh(self) -> None:
        """Ask for the topics' partitions now: aiokafka looks every five minutes."""
        await self._thread.call_thread(self._thread._ensure_consumer()._client.force_metadata_update)

    async def _committed(self, inputs: list[TP]) -> dict[TP, int]:
        """Where to go on; 0 where nothing was committed, or something of another topic of the same name.

        The topic's id is the committed metadata; an earlier release committed none.
        """
        changed = await self._topic_ids.take()
        coordinator = self._thread._ensure_consumer()._coordinator
        asked = {driver.ensure_aiokafka_TP(tp): tp for tp in inputs}
        found = await self._thread.call_thread(coordinator.fetch_committed_offsets, list(asked))
        committed = dict.fromkeys(inputs, 0)
        for place, tp in asked.items():
            if place not in found:
                continue
            # confluent-kafka writes the end of its string too.
            was, now = found[place].metadata.rstrip("\0"), self._topic_ids.of(tp.topic).hex()
            if tp.topic in changed or (was and now and was != now):
                log.warning("%s was deleted and made anew: %s-%d is read from its beginning", tp.topic, *tp)
            else:
                committed[tp] = found[place].offset
        return committed

    async def _refuse_recreated(self, committed: Mapping[TP, int]) -> None:
        """Committed offsets beyond a topic's end belong to an earlier topic of its name."""
        for tp, end in (await self.highwaters(*committed)).items():
            if committed[tp] > end:
                raise TopicError(
                    f"{tp.topic}-{tp.partition} ends at {end}, but the group {self.app.conf.id!r} has acknowledged "
                    f"{committed[tp]} records of it: the topic was created anew, or its broker lost records. "
                    f"{RECREATED_ADVICE}"
                )

    def _handed_on(self, places: Iterable[TP], generation: int, seeks: int) -> bool:
        """Whether what was fetched of these is handed on. Of changelogs that were sought meanwhile it never is."""
        goes_on = not self.should_stop and self._goes_on(generation)
        if not goes_on or seeks != self._seeks:
            self._left_out(places)
        return goes_on

    def _left_out(self, places: Iterable[TP]) -> None:
        """What was fetched of these is not handed on. Of inputs `perform_seek` follows; of a changelog the recovery's
        seek may have been before it, so it is fetched again.
        """
        for tp in places:
            read = self.changelog_read(tp)
            if read is not None:
                self._rewinds[tp] = read.end

    def _messages(self, tp: TP, records: list[FetchedRecord], generation: int) -> Iterator[Any]:
        if self._is_changelog_tp(tp):
            yield from self._changelog_messages(tp, records, generation)
            return
        first: int = records[0].offset
        covered_from = min(self._position.get(tp, first), first)  # without a known position a list covers itself alone
        for start in range(0, len(records), CHUNK):
            part = records[start : start + CHUNK]
            message = self._to_message(tp, part[-1])
            message.key = None
            message.value = Chunk(covered_from, part)
            self._position[tp] = covered_from = part[-1].offset + 1
            yield message

    def _changelog_messages(self, tp: TP, records: list[FetchedRecord], generation: int) -> Iterator[Any]:
        """Single records, each with the offset from which on nothing lies between it and the one before."""
        first, read = records[0].offset, self._changelogs.get(tp)
        if read is None or read.generation != generation:
            self._changelogs[tp] = read = ChangelogRead(generation, first, first)
        covered_from = min(read.end, first)
        for record in records:
            message = self._to_message(tp, record)
            message.covered_from = covered_from
            read.newest = max(read.newest, record.offset)
            read.end = covered_from = record.offset + 1
            yield message

    def _goes_on(self, generation: int) -> bool:
        return bool(self.flow_active and generation == self.app.consumer_generation_id)

    def _recovering(self, timeout: float) -> float:
        """How long the next fetch of a recovery may wait; and note up to where changelogs were read, if the last one
        brought nothing, since markers may have been passed. To be called where nothing taken is on its way.
        """
        for tp in () if self._fetched else self._get_active_partitions():
            read, position = self.changelog_read(tp), self.records.position(tp)
            if read is not None and position is not None:
                read.end = max(read.end, position)
        return min(timeout, _RECOVERING_S)

    def _begin(self, tp: TP, offset: int) -> bool:
        """A partition was sought; whether it is a changelog's."""
        if not self._is_changelog_tp(tp):
            return False
        self._changelogs[tp] = ChangelogRead(self.app.consumer_generation_id, offset, offset)
        return True

    def _go_back(self, dropped: dict[TP, int]) -> None:
        """Fetch what was dropped again, and what `rewind` asked for. Only here, where nothing taken is on its way, is a
        partition's position known for certain."""
        rewinds, self._rewinds = self._rewinds, {}
        assigned = self.assignment()
        places = {tp: offset for tp, offset in {**dropped, **rewinds}.items() if tp in assigned}
        # Where nothing was taken meanwhile, a seek would throw away what is fetched already.
        self.records.seek({tp: offset for tp, offset in places.items() if self.records.position(tp) != offset})
        for tp, offset in places.items():
            self._position[tp] = offset
            self._begin(tp, offset)
        self._settled, self._sought = self._settled or self._sought, False


class ChunkTransport(driver.Transport):  # type: ignore[misc]
    """The transport that makes a `ChunkConsumer`."""

    Consumer = ChunkConsumer
