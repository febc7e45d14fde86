"""What the consumer claims about the chunks that it hands on, and how holes in them are found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.kafka.consuming.consumer import CHUNK, ChangelogRead, ChunkConsumer
from streams.kafka.progress import PartitionProgress
from streams.pipeline.intake import Intake
from streams.telemetry.metrics import Metrics

CLICKS = TP("clicks", 0)


class Records:
    """What was fetched of a topic in memory, as a `RecordFetcher` tells it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seeks: list[int] = []

    def position(self, tp: TP) -> int:
        return self.at

    def seek(self, places: Mapping[TP, int]) -> None:
        for offset in places.values():
            self.at = offset
            self.seeks.append(offset)

    def wake(self) -> None:
        """Nobody waits here."""

    def renew(self) -> None:
        """There is no client."""


class Fetched(ChunkConsumer):
    """The consumer over a topic in memory: a fetch gives the records from its position on, at most `most`."""

    should_stop = False

    def __init__(self, offsets: Iterable[int], *, at: int = 0, most: int = 10 * CHUNK) -> None:
        self.offsets = list(offsets)
        self.records: Any = Records(at)
        self.most = most
        self.during_fetch: Callable[[], None] = lambda: None
        self.active = {CLICKS}
        self.progress = PartitionProgress()
        self.app = SimpleNamespace(
            consumer_generation_id=1,
            in_recovery=False,
            flow_control=SimpleNamespace(is_active=lambda: True),
            consumer=self,
        )
        self.flow_active = True
        self._buffered_partitions: set[TP] = set()
        self._position: dict[TP, int] = {}
        self._rewinds: dict[TP, int] = {}
        self._waiting: dict[TP, int] = {}
        self._changelogs: dict[TP, ChangelogRead] = {}
        self.of_rows = False  # whether what it reads is a changelog
        self.fetches = 0

    def _get_active_partitions(self) -> set[TP]:
        return self.active

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109
        self.fetches += 1
        found = [offset for offset in self.offsets if offset >= self.records.at][: self.most]
        if found:
            self.records.at = found[-1] + 1
        self.during_fetch()
        records = [SimpleNamespace(topic="clicks", partition=0, offset=offset) for offset in found]
        return {CLICKS: records} if found else {}, self.active

    def assignment(self) -> set[TP]:
        return {CLICKS}

    def _is_changelog_tp(self, tp: TP) -> bool:
        return self.of_rows

    def _to_message(self, tp: TP, record: Any) -> Any:
        return SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=record.offset, generation_id=1)

    def committed(self, offset: int) -> None:
        """What `perform_seek` does at the end of a recovery."""
        self._rewinds[CLICKS] = offset
        self.progress.start({("clicks", 0): offset})

    def chunks(self) -> list[Any]:
        """What one fetch hands on."""

        async def collect() -> list[Any]:
            return [message async for _, message in self.getmany(1.0)]

        return asyncio.run(collect())

    def handle(self, *messages: Any) -> list[int]:
        """The offsets that an agent handles of these chunks."""
        intake = Intake(self.app, self.progress, Metrics())
        handled = []
        for message in messages:
            for record in intake.admitted(message):
                intake.done(record)
                handled.append(record.offset)
        return handled


def test_chunks_are_handled_in_line() -> None:
    """Records come in chunks of bounded size, each once."""
    consumer = Fetched(range(CHUNK + 9), most=CHUNK + 5)
    consumer.committed(0)
    chunks = consumer.chunks() + consumer.chunks()
    assert [len(chunk.value.records) for chunk in chunks] == [CHUNK, 5, 4]
    assert consumer.handle(*chunks) == list(range(CHUNK + 9))


def test_a_chunk_lost_on_the_way_is_read_again() -> None:
    """The chunk after a lost one is not handled; the consumer goes back to the first record that was not."""
    consumer = Fetched(range(2 * CHUNK))
    consumer.committed(0)
    _, after = consumer.chunks()
    assert consumer.handle(after) == []
    assert consumer.handle(*consumer.chunks()) == list(range(2 * CHUNK))


def test_what_was_fetched_from_the_right_place_is_kept() -> None:
    """A rebalance seeks only where records were taken meanwhile: a seek throws away what has been fetched."""
    consumer = Fetched(range(9), at=4)
    consumer.committed(4)
    assert consumer.handle(*consumer.chunks()) == [4, 5, 6, 7, 8]
    assert consumer.records.seeks == []
    consumer.progress.clear()
    consumer.committed(7)
    assert consumer.handle(*consumer.chunks()) == [7, 8]
    assert consumer.records.seeks == [7]


def test_nothing_is_fetched_while_every_partition_is_paused() -> None:
    """A fetch then would wait for a second, and so would the first record after the pause."""
    consumer = Fetched(range(3))
    consumer.committed(0)
    consumer.active = set()
    assert consumer.chunks() == []
    assert consumer.fetches == 0
    consumer.active = {CLICKS}
    assert consumer.handle(*consumer.chunks()) == [0, 1, 2]


def test_a_gap_of_the_topic_itself_is_passed() -> None:
    """Compaction and transactions leave gaps; what was fetched from one position on is all there is."""
    consumer = Fetched([7, 9, 20])
    consumer.committed(3)
    assert consumer.handle(*consumer.chunks()) == [7, 9, 20]
    assert consumer.progress.take() == {("clicks", 0): 21}


def test_a_seek_while_records_are_on_their_way_hides_no_loss() -> None:
    """Faust seeks to the committed offset while fetched chunks are handed on, then clears its queues.

    The chunks after the cleared one must not pass for everything since the committed offset.
    """
    consumer = Fetched(range(10, 10 + 2 * CHUNK), at=10)

    async def recover() -> list[Any]:
        chunks = []
        async for _, message in consumer.getmany(1.0):
            chunks.append(message)
            if len(chunks) == 1:
                consumer.committed(10)
        return chunks

    _, second = asyncio.run(recover())
    assert consumer.handle(second) == []
    assert consumer.handle(*consumer.chunks()) == list(range(10, 10 + 2 * CHUNK))


def test_records_fetched_while_faust_seeks_are_fetched_again() -> None:
    """Faust looks up one committed offset after the other; what it fetches meanwhile was taken from anywhere."""
    consumer = Fetched([40, 50, 51], at=50)
    consumer.during_fetch = lambda: consumer.committed(40)
    assert consumer.chunks() == []
    consumer.during_fetch = lambda: None
    assert consumer.handle(*consumer.chunks()) == [40, 50, 51]


def test_a_list_fetched_from_an_unknown_position_covers_itself_alone() -> None:
    """It may be handled only where it begins with the record in line."""
    consumer = Fetched([50, 51], at=50)
    (chunk,) = consumer.chunks()
    consumer.committed(40)
    assert consumer.handle(chunk) == []


def test_nothing_is_handled_before_the_committed_offset_is_known() -> None:
    """Until Faust has looked it up, a record may lie before or beyond what is in line: it comes again."""
    consumer = Fetched([5, 6])
    assert consumer.handle(*consumer.chunks()) == []
    consumer.committed(5)
    assert consumer.handle(*consumer.chunks()) == [5, 6]


def test_what_came_already_is_not_handled_twice() -> None:
    """A rewind too many costs a fetch and nothing else."""
    consumer = Fetched(range(4), most=3)
    consumer.committed(0)
    assert consumer.handle(*consumer.chunks()) == [0, 1, 2]
    consumer.rewind("clicks", 0, 1)
    assert consumer.handle(*consumer.chunks()) == [3]


def test_a_loss_at_the_end_of_a_topic_is_found_without_a_later_record() -> None:
    """Where an idle agent never got what was handed on, the consumer goes back; not at first sight."""
    consumer = Fetched([0, 1])
    consumer.committed(0)
    consumer.chunks()
    for idle in (True, False, True):
        consumer.rewind_lost(idle=lambda topic, idle=idle: idle)
        assert consumer.chunks() == []
    consumer.rewind_lost(idle=lambda topic: True)
    assert consumer.handle(*consumer.chunks()) == [0, 1]


def test_records_of_a_partition_that_is_paused_meanwhile_come_again() -> None:
    """Faust skips them without a seek, which loses them."""
    consumer = Fetched([0, 1])
    consumer.committed(0)
    consumer.active = set()
    assert consumer.chunks() == []
    consumer.active = {CLICKS}
    assert consumer.handle(*consumer.chunks()) == [0, 1]


def test_a_partition_that_ends_in_markers_is_read_to_its_end() -> None:
    """Offsets without a record behind the last one count as handled, but not before that one was."""
    consumer = Fetched([0, 1])
    consumer.committed(0)
    consumer._sought = True
    chunks = consumer.chunks()
    consumer.records.at = 4  # it was read on, over an aborted record and a marker
    assert consumer.chunks() == []
    assert consumer.progress.expected(("clicks", 0)) == 0
    consumer.handle(*chunks)
    consumer._marks_due = 0.0
    assert consumer.chunks() == []
    assert consumer.progress.take() == {("clicks", 0): 4}
    consumer.offsets.append(5)
    assert consumer.handle(*consumer.chunks()) == [5]


def test_records_that_were_dropped_are_no_markers() -> None:
    """Where a flow stood still meanwhile, what was fetched and not handed on must come again."""
    consumer = Fetched([0, 1, 2], most=2)
    consumer.committed(0)
    consumer._sought = True
    consumer.handle(*consumer.chunks())
    consumer.during_fetch = lambda: setattr(consumer, "should_stop", True)
    assert consumer.chunks() == []
    consumer.during_fetch, consumer.should_stop = lambda: None, False
    consumer._marks_due = 0.0
    consumer.chunks()
    assert consumer.progress.expected(("clicks", 0)) == 2


def test_a_topic_made_anew_is_read_from_its_beginning() -> None:
    """In the midst of a chunk: the rest is not handled, what was is not committed, and all of the new one comes."""
    consumer = Fetched(range(10))
    consumer.committed(0)
    (chunk,) = consumer.chunks()
    intake = Intake(consumer.app, consumer.progress, Metrics())
    intake.done(intake.admitted(chunk)[0])
    assert intake.current(chunk)
    consumer.read_anew("clicks")
    assert not intake.current(chunk)
    assert consumer.progress.take() == {}
    consumer.offsets = list(range(20))
    assert consumer.handle(chunk, *consumer.chunks(), *consumer.chunks()) == list(range(20))


def recovering(offsets: Iterable[int], *, at: int = 0, most: int = 10) -> Fetched:
    """A consumer in a recovery, that reads a changelog from where it was sought."""
    consumer = Fetched(offsets, at=at, most=most)
    consumer.of_rows = consumer.app.in_recovery = True
    consumer._begin(CLICKS, at)
    return consumer


def covered(messages: list[Any]) -> list[tuple[int, int]]:
    """Of each record of a changelog: from where on nothing lies before it, and where it is."""
    return [(message.covered_from, message.offset) for message in messages]


def test_a_changelogs_records_say_what_lies_before_them() -> None:
    """From the seek on, over markers between them and fetches without a record."""
    consumer = recovering([3, 5, 9], at=2, most=2)
    assert covered(consumer.chunks()) == [(2, 3), (4, 5)]
    consumer.most = 0
    assert consumer.chunks() == []
    consumer.records.at, consumer.most = 8, 2  # markers were passed
    assert covered(consumer.chunks()) == [(8, 9)]
    read = consumer.changelog_read(CLICKS)
    assert read is not None
    assert (read.start, read.end, read.newest) == (2, 10, 9)


def test_what_a_recovery_fetched_before_a_rebalance_is_no_part_of_the_next() -> None:
    """The group went on while the fetch was under way: nothing of it is handed on, and what is read next does not
    claim to follow what was read before."""
    consumer = recovering([0, 1, 2, 3, 4], most=2)
    assert covered(consumer.chunks()) == [(0, 0), (1, 1)]

    def rebalance() -> None:
        consumer.app.consumer_generation_id = 2

    consumer.during_fetch = rebalance
    assert consumer.chunks() == []
    assert consumer.changelog_read(CLICKS) is None
    consumer.during_fetch = lambda: None
    assert covered(consumer.chunks()) == [(4, 4)]


def test_what_was_fetched_before_a_seek_does_not_follow_it() -> None:
    """A recovery seeks while a fetch is under way, whose records are from where it stood before."""
    consumer = recovering([0, 1, 2, 3, 4], at=3)

    def sought() -> None:
        consumer._seeks += 1
        consumer._begin(CLICKS, 0)

    consumer.during_fetch = sought
    assert consumer.chunks() == []
    consumer.during_fetch = lambda: None
    assert covered(consumer.chunks()) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_changelog_that_is_read_again_follows_what_was_applied() -> None:
    """After a rewind its records cover everything from there on."""
    consumer = recovering([0, 1, 2, 3], most=4)
    consumer.chunks()
    consumer.rewind("clicks", 0, 2)
    assert covered(consumer.chunks()) == [(2, 2), (3, 3)]
