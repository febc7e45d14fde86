"""Rows come back whole: whatever is handed on late, twice or not at all, nothing of a changelog is left out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.consuming.consumer import ChangelogRead, ChunkConsumer
from streams.state.recovery import RowRecovery

ROWS = TP("rows", 0)


class Table:
    """Takes what is applied."""

    recovery_buffer_size = 3

    def __init__(self) -> None:
        self.applied: list[int] = []

    def apply_changelog_batch(self, events: list[Any]) -> None:
        self.applied += [event.message.offset for event in events]


class Reader:
    """A partition of a changelog, with markers between its records, and one who reads it in generations.

    What is handed on goes by the consumer's own `_changelog_messages`; the seeks are the recovery's and `rewind`'s.
    """

    def __init__(self, offsets: list[int], end: int) -> None:
        self.offsets, self.end, self.position, self.generation = offsets, end, 0, 1
        self.recovery, self.table = recovery_of(self), Table()
        self.recovery.tp_to_table[ROWS] = self.table
        self.recovery.active_tps.add(ROWS)
        self.recovery.active_highwaters[ROWS] = end - 1
        self.consumer: Any = object.__new__(ChunkConsumer)
        self.consumer._changelogs, self.consumer._rewinds = {}, {}
        self.consumer._to_message = lambda tp, record: SimpleNamespace(tp=tp, offset=record.offset)
        self.consumer._is_changelog_tp = lambda tp: True
        self.consumer.app = SimpleNamespace(consumer_generation_id=1)
        self.seek(-1)

    def seek(self, applied: int) -> None:
        """A recovery begins: from what is applied, as Faust seeks."""
        self.recovery.active_offsets[ROWS] = applied
        self.position = max(applied, 0)
        self.generation += 1
        self.consumer.app.consumer_generation_id = self.generation
        self.consumer._begin(ROWS, self.position)

    def rewind(self, topic: str, partition: int, offset: int) -> None:
        """As the consumer's; done at once, for no fetch is under way."""
        assert (topic, partition) == ROWS
        self.position = offset
        self.consumer._begin(ROWS, offset)

    def changelog_read(self, tp: TP) -> ChangelogRead | None:
        """As the consumer's."""
        read: ChangelogRead | None = self.consumer.changelog_read(tp)
        return read

    def note(self) -> None:
        """As before each fetch of a recovery that follows an empty one."""
        if (read := self.changelog_read(ROWS)) is not None:
            read.end = max(read.end, self.position)

    def fetch(self, most: int) -> list[Any]:
        """Records from where it stands; at the end the markers that are left."""
        found = [offset for offset in self.offsets if offset >= self.position][:most]
        self.position = found[-1] + 1 if found else self.end
        return list(self.consumer._changelog_messages(ROWS, records(found), self.generation)) if found else []

    def take(self, messages: list[Any]) -> None:
        """They arrive."""
        for message in messages:
            self.recovery._take(SimpleNamespace(message=message))

    @property
    def missing(self) -> bool:
        return bool(self.recovery.active_offsets[ROWS] < self.end - 1)


def recovery_of(reader: Reader) -> RowRecovery:
    app = SimpleNamespace(conf=SimpleNamespace(stream_recovery_delay=0.0), consumer=reader)
    made = RowRecovery(app, SimpleNamespace())
    made.in_recovery = True
    return made


def records(offsets: list[int]) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


MISHAPS = st.lists(st.tuples(st.sampled_from(["taken", "late", "lost", "again"]), st.integers(1, 5)), max_size=30)


@given(st.sets(st.integers(0, 30), max_size=20), MISHAPS)
def test_nothing_is_left_out(offsets: set[int], mishaps: list[tuple[str, int]]) -> None:
    """Fetches arrive, arrive after the next seek, are lost, and recoveries begin again: in the end everything was
    applied, each record after all before it."""
    reader = Reader(sorted(offsets), 32)
    late: list[Any] = []
    for what, most in mishaps:
        fetched = reader.fetch(most)
        if what == "taken":
            reader.take(fetched)
        elif what == "late":
            late += fetched
        elif what == "again":
            reader.seek(max(reader.table.applied, default=-1))
            reader.recovery.buffers.clear()
            reader.take(late)
            late = []
    for _ in range(500):
        if not reader.missing:
            break
        fetched = reader.fetch(4)
        reader.take(fetched)
        if not fetched:
            reader.note()
            reader.recovery._pass_markers()
    assert not reader.missing
    reader.recovery.flush_buffers()
    seen: set[int] = set()
    for offset in reader.table.applied:
        assert {before for before in offsets if before < offset} <= seen | {offset}
        seen.add(offset)
    assert seen == offsets


def test_a_record_from_before_the_seek_is_not_taken() -> None:
    """It was fetched by an earlier recovery, and comes after the next one's seek: what lies between is read first."""
    reader = Reader([0, 1, 2, 3, 4, 5], 6)
    reader.take(reader.fetch(2))
    reader.recovery.flush_buffers()
    stale = reader.fetch(3)[1:]  # 3 and 4
    reader.seek(1)
    reader.take(stale)
    assert reader.recovery.active_offsets[ROWS] == 1
    assert reader.position == 2
    reader.take(reader.fetch(9))
    reader.recovery.flush_buffers()
    assert reader.table.applied == [0, 1, 2, 3, 4, 5]


def test_what_was_lost_on_the_way_is_read_again() -> None:
    """Handed on and never arrived, with nothing after it: after some looks the partition is read again."""
    reader = Reader([0, 1], 2)
    reader.fetch(9)
    looks = 0
    while reader.position == 2:
        reader.note()
        reader.recovery._pass_markers()
        looks += 1
        assert looks < 100
    assert looks > 1
    reader.take(reader.fetch(9))
    assert not reader.missing


def test_what_is_written_while_rows_are_served_is_not_taken() -> None:
    """Checkpoints store it; what is read of it afterwards would be older than what is there."""
    reader = Reader([0, 1, 2], 3)
    reader.recovery.in_recovery = False
    reader.take(reader.fetch(9))
    reader.recovery.flush_buffers()
    assert reader.table.applied == []
    assert reader.position == 3


def test_a_recovery_takes_nothing_that_an_earlier_one_left() -> None:
    """What was handed on after the earlier one's end waits in its queue until then."""
    recovery, queue = recovery_of(Reader([0, 1], 2)), asyncio.Queue[Any]()
    recovery.tables, recovery.in_recovery = SimpleNamespace(changelog_queue=queue), False
    queue.put_nowait("late")
    recovery._set_recovery_started()
    assert queue.empty()
    assert recovery.in_recovery
