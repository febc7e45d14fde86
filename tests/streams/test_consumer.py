"""What the consumer claims about the chunks that it hands on, and how holes in them are found."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.consumer import CHUNK, ChunkConsumer
from streams.inputs import Intake
from streams.metrics import Metrics
from streams.progress import Progress

CLICKS = TP("clicks", 0)


class Fetched(ChunkConsumer):
    """The consumer without a broker: it fetches the record lists that a test lines up."""

    should_stop = False

    def __init__(self) -> None:
        self.progress = Progress()
        self.app = SimpleNamespace(
            consumer_generation_id=1, flow_control=SimpleNamespace(is_active=lambda: True), consumer=self
        )
        self.lists: list[list[int]] = []
        self.sought: dict[TP, int] = {}
        self.flow_active = True
        self._buffered_partitions: set[TP] = set()
        self._read_offset: dict[TP, int | None] = {}
        self._position: dict[TP, int] = {}
        self._seeks = 0
        self._rewinds: dict[TP, int] = {}
        self._waiting: dict[TP, int] = {}
        self._thread = SimpleNamespace(seek_wait=self._seek_wait)
        self.during_fetch = lambda: None

    async def _seek_wait(self, places: dict[TP, int]) -> None:
        self.sought.update(places)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109
        offsets = self.lists.pop(0)
        self.during_fetch()
        records = [SimpleNamespace(topic="clicks", partition=0, offset=offset) for offset in offsets]
        return {CLICKS: records}, {CLICKS}

    def assignment(self) -> set[TP]:
        return {CLICKS}

    def _is_changelog_tp(self, tp: TP) -> bool:
        return False

    def _to_message(self, tp: TP, record: Any) -> Any:
        return SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=record.offset, generation_id=1)

    def committed(self, offset: int) -> None:
        """What `perform_seek` does at the end of a recovery."""
        self._seeks += 1
        self._position[CLICKS] = offset
        self.progress.start({("clicks", 0): offset})

    def next_chunks(self) -> list[Any]:
        async def collect() -> list[Any]:
            return [message async for _, message in self.getmany(1.0)]

        return asyncio.run(collect())


def handle(consumer: Fetched, message: Any) -> list[int]:
    """Offsets that an agent would handle of a chunk."""
    intake = Intake(consumer.app, consumer.progress, Metrics())
    records = intake.admitted(message)
    for record in records:
        intake.done(record)
    return [record.offset for record in records]


def test_chunks_are_handled_in_line() -> None:
    """Records come in chunks of bounded size, each once."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [list(range(CHUNK + 5)), list(range(CHUNK + 5, CHUNK + 9))]
    chunks = consumer.next_chunks() + consumer.next_chunks()
    assert [len(chunk.value.records) for chunk in chunks] == [CHUNK, 5, 4]
    assert sum((handle(consumer, chunk) for chunk in chunks), []) == list(range(CHUNK + 9))


def test_a_chunk_lost_on_the_way_is_read_again() -> None:
    """The chunk after a lost one is not handled; the consumer goes back to the first record that was not."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [list(range(2 * CHUNK)), list(range(2 * CHUNK, 2 * CHUNK + 3)), list(range(2 * CHUNK))]
    lost, after = consumer.next_chunks()
    del lost
    assert handle(consumer, after) == []
    assert consumer.next_chunks() == []
    assert consumer.sought == {CLICKS: 0}
    assert sum((handle(consumer, chunk) for chunk in consumer.next_chunks()), []) == list(range(2 * CHUNK))


def test_a_gap_of_the_topic_itself_is_passed() -> None:
    """Compaction and transactions leave gaps; what was fetched from one position on is all there is."""
    consumer = Fetched()
    consumer.committed(3)
    consumer.lists = [[7, 9, 20]]
    (chunk,) = consumer.next_chunks()
    assert handle(consumer, chunk) == [7, 9, 20]
    assert consumer.progress.take() == {("clicks", 0): 21}


def test_a_seek_while_records_are_on_their_way_hides_no_loss() -> None:
    """Faust seeks to the committed offset while fetched chunks are handed on, then clears its queues.

    The chunks after the cleared one must not pass for everything since the committed offset.
    """
    consumer = Fetched()
    consumer.lists = [list(range(10, 10 + 2 * CHUNK))]

    async def recover() -> list[Any]:
        chunks = []
        async for _, message in consumer.getmany(1.0):
            chunks.append(message)
            if len(chunks) == 1:
                consumer.committed(10)
        return chunks

    _, second = asyncio.run(recover())
    assert handle(consumer, second) == []
    assert consumer._rewinds == {CLICKS: 10}


def test_records_fetched_before_a_seek_claim_nothing_before_them() -> None:
    """A fetch that was under way when Faust went back does not cover what lies between."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [[50, 51]]
    consumer.during_fetch = lambda: consumer.committed(0)
    (chunk,) = consumer.next_chunks()
    assert handle(consumer, chunk) == []


def test_nothing_is_handled_before_the_committed_offset_is_known() -> None:
    """Until Faust has looked it up, a record may lie before or beyond what is in line: it comes again."""
    consumer = Fetched()
    consumer.lists = [[5, 6]]
    (chunk,) = consumer.next_chunks()
    assert handle(consumer, chunk) == []


def test_what_came_already_is_not_handled_twice() -> None:
    """A rewind too many costs a fetch and nothing else."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [[0, 1, 2], [0, 1, 2, 3]]
    (first,) = consumer.next_chunks()
    assert handle(consumer, first) == [0, 1, 2]
    (again,) = consumer.next_chunks()
    assert handle(consumer, again) == [3]


def test_a_loss_at_the_end_of_a_topic_is_found_without_a_later_record() -> None:
    """Where an idle agent never got what was handed on, the consumer goes back; not at first sight."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [[0, 1]]
    consumer.next_chunks()
    consumer.rewind_lost(idle=lambda topic: True)
    assert consumer._rewinds == {}
    consumer.rewind_lost(idle=lambda topic: False)
    assert consumer._rewinds == {}
    consumer.rewind_lost(idle=lambda topic: True)
    consumer.rewind_lost(idle=lambda topic: True)
    assert consumer._rewinds == {CLICKS: 0}


def test_records_of_a_partition_that_is_paused_meanwhile_come_again() -> None:
    """Faust skips them without a seek, which loses them."""
    consumer = Fetched()
    consumer.committed(0)
    consumer.lists = [[0, 1]]

    async def paused(timeout: float) -> Any:  # noqa: ASYNC109
        records, _ = await Fetched._wait_next_records(consumer, timeout)
        return records, set()

    consumer._wait_next_records = paused  # type: ignore[method-assign]
    assert consumer.next_chunks() == []
    assert consumer.sought == {CLICKS: 0}
