"""The order of a checkpoint: nothing is acknowledged that a kill could still undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ranker.state.codec import decode_row
from ranker.state.row import UserRow
from streams.kafka.outbox import SendError
from streams.kafka.progress import PartitionProgress
from streams.kafka.transactions import Membership
from streams.state.cache import RowCache
from streams.state.checkpoint import Checkpoints, UnsafeCheckpointError
from streams.state.store import StoredRow
from streams.telemetry.metrics import Metrics

PLACE = ("clicks", 0)


class World:
    """Everything around a checkpoint, noting what happens in which order."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.membership: Membership | None = Membership("group", 1, "member")
        self.member = True  # whether the group says so
        self.error: SendError | None = None
        self.progress = PartitionProgress()
        self.progress.start({PLACE: 0})
        self.rows = RowCache(lambda partition, user: StoredRow(None, {}))
        self.checkpoints = Checkpoints(
            progress=self.progress,
            rows=self.rows,
            table=self,  # type: ignore[arg-type]
            settled=self.settled,
            outboxes=(Box("rankings", self), Box("examples", self)),  # type: ignore[arg-type]
            changelog=Box("changelog", self),  # type: ignore[arg-type]
            membership=lambda: self.membership,
            commit=self.commit,
            left=lambda: self.happened.append("let go"),
            metrics=Metrics(),
        )

    changelog_topic_name = "rows-changelog"

    @property
    def store(self) -> World:
        return self

    def write(self, partition: int, rows: Mapping[bytes, bytes], offset: int | None = None) -> None:
        self.happened.append(("stored", partition, sorted(rows), offset))

    async def settled(self) -> None:
        self.happened.append("ranked")

    async def commit(self, offsets: Mapping[Any, int], membership: Membership) -> bool:
        if self.member:
            self.happened.append(("committed", dict(offsets), membership.generation))
        return self.member

    def handled(self, user: bytes, offset: int, partition: int = 0) -> None:
        """An input came and changed its user's row."""
        self.rows.put((partition, user), UserRow(revision=offset + 1))
        self.progress.done(("clicks", partition), offset)


class Box:
    """An outbox whose records are confirmed when asked for."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.callbacks: list[Callable[[int], None] | None] = []
        self.sent: list[tuple[bytes, bytes, int]] = []

    def poll(self) -> None:
        """Nothing to take in."""

    async def begin(self) -> None:
        self.world.happened.append("begun")

    def send(
        self, topic: str, key: bytes, value: bytes, partition: int, confirmed: Callable[[int], None] | None
    ) -> None:
        self.sent.append((key, value, partition))
        self.callbacks.append(confirmed)

    def cut(self) -> None:
        """All of it."""

    async def confirmed(self, sent: None) -> None:
        await asyncio.sleep(0)
        if self.world.error is not None:
            raise self.world.error
        for offset, callback in enumerate(self.callbacks):
            if callback is not None:
                callback(offset)
        self.callbacks.clear()
        self.world.happened.append((self.name, "confirmed", len(self.sent)))


async def test_inputs_are_acknowledged_after_rankings_and_rows_are_confirmed_and_stored() -> None:
    """In this order: RocksDB holds nothing that the changelog may not have. It learns how far that is copied last."""
    world = World()
    world.handled(b"u", 4)
    world.handled(b"v", 5)
    await world.checkpoints.take()
    assert world.happened == [
        "ranked",
        ("rankings", "confirmed", 0),
        ("examples", "confirmed", 0),
        "begun",
        ("changelog", "confirmed", 2),
        ("committed", {PLACE: 6}, 1),
        ("stored", 0, [b"u", b"v"], 1),
    ]


async def test_rows_go_to_the_partition_they_were_read_from_as_they_are_stored() -> None:
    """The changelog record is what RocksDB holds."""
    world = World()
    world.handled(b"u", 4, partition=0)
    world.handled(b"u", 9, partition=3)
    await world.checkpoints.take()
    changelog = world.checkpoints._changelog
    assert [(key, decode_row(value).revision, at) for key, value, at in changelog.sent] == [  # type: ignore[attr-defined]
        (b"u", 5, 0),
        (b"u", 10, 3),
    ]
    assert [entry for entry in world.happened if entry[0] == "stored"] == [
        ("stored", 0, [b"u"], 0),
        ("stored", 3, [b"u"], 1),
    ]


async def test_nothing_to_do_is_nothing_done() -> None:
    """An idle worker neither writes nor commits."""
    world = World()
    await world.checkpoints.take()
    assert world.happened == []


async def test_an_input_that_changed_no_row_is_acknowledged_all_the_same() -> None:
    """A dead letter, or one that came before."""
    world = World()
    world.progress.done(PLACE, 7)
    await world.checkpoints.take()
    assert world.happened[-1] == ("committed", {PLACE: 8}, 1)


async def test_what_is_not_confirmed_is_never_acknowledged_also_not_by_the_next_checkpoint() -> None:
    """The rows of a checkpoint that failed are lost to memory: a later commit would acknowledge their inputs."""
    world = World()
    world.handled(b"u", 4)
    world.error = SendError("lost")
    with pytest.raises(SendError):
        await world.checkpoints.take()
    world.error = None
    world.handled(b"v", 5)
    with pytest.raises(UnsafeCheckpointError):
        await world.checkpoints.take()
    assert not [entry for entry in world.happened if entry[0] in ("committed", "stored")]


async def test_a_checkpoint_cut_short_ends_all_checkpoints() -> None:
    """The same for one that is cancelled."""
    world = World()
    world.handled(b"u", 4)
    taking = asyncio.ensure_future(world.checkpoints.take())
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    with pytest.raises(UnsafeCheckpointError):
        await world.checkpoints.take()


async def test_a_worker_that_the_group_has_left_behind_keeps_nothing() -> None:
    """Others hold its partitions: it lets go, and may serve again once it has partitions anew."""
    world = World()
    world.handled(b"u", 4)
    world.member = False
    await world.checkpoints.take()
    assert world.happened == [
        "ranked",
        ("rankings", "confirmed", 0),
        ("examples", "confirmed", 0),
        "begun",
        ("changelog", "confirmed", 1),
        "let go",
    ]
    world.member = True
    world.progress.start({PLACE: 4})
    world.handled(b"u", 4)
    await world.checkpoints.take()
    assert ("committed", {PLACE: 5}, 1) in world.happened


async def test_rows_count_in_the_generation_with_which_their_partitions_came() -> None:
    """Never in one that was joined while the checkpoint was under way: that one may have other owners."""
    world = World()
    world.handled(b"u", 4)
    taking = asyncio.ensure_future(world.checkpoints.take())
    await asyncio.sleep(0)
    world.membership = Membership("group", 2, "member")
    await taking
    assert ("committed", {PLACE: 5}, 1) in world.happened


async def test_without_a_generation_nothing_is_written() -> None:
    """The broker checks no generation of who names none."""
    world = World()
    world.handled(b"u", 4)
    world.membership = None
    await world.checkpoints.take()
    assert world.happened == ["ranked", ("rankings", "confirmed", 0), ("examples", "confirmed", 0), "let go"]
