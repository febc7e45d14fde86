"""The schedule of faults, and the workload beside it: a seed replays both."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from liverank.faults.load.inputs import Planned
from liverank.faults.load.poison import PRICED
from liverank.faults.load.workload import STEADY, Workload, user_kind
from liverank.faults.schedule import KINDS, schedule
from liverank.faults.strikes import STRIKES
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Item
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow

NOW = 1_795_000_000_000


def test_a_seed_replays_the_schedule() -> None:
    """Twice the same, another seed another one, and every kind comes once before any comes again."""
    first = list(schedule(7, 40, tuple(KINDS), 6.0))
    assert first == list(schedule(7, 40, tuple(KINDS), 6.0))
    assert first != list(schedule(8, 40, tuple(KINDS), 6.0))
    assert Counter(fault.kind for fault in first[: len(KINDS)]) == dict.fromkeys(KINDS, 1)
    assert [fault.round for fault in first] == list(range(1, 41))


def test_what_must_outlast_a_session_does() -> None:
    """Also where something is away for a moment at most; nothing is away for longer than asked."""
    for fault in schedule(1, 200, tuple(KINDS), 6.0, longest_s=1.5):
        outlasts = fault.kind in ("worker-stopped", "worker-cut-off")
        assert (8.0 <= fault.lasts_s <= 10.0) if outlasts else (1.0 <= fault.lasts_s <= 3.0)
    assert max(fault.lasts_s for fault in schedule(1, 200, tuple(KINDS), 6.0, longest_s=60.0)) > 40


@pytest.mark.parametrize("kinds", [("worker-kiled",), ()])
def test_a_kind_that_there_is_not(kinds: tuple[str, ...]) -> None:
    """Is named, with those that there are."""
    with pytest.raises(LiverankError, match="valid are worker-killed, "):
        list(schedule(1, 1, kinds, 6.0))


def test_every_kind_can_be_done() -> None:
    """And nothing can be done that no schedule draws."""
    assert set(STRIKES) == set(KINDS)


def drawn(seed: int, count: int = 4000) -> list[Planned]:
    """The inputs of a stretch."""
    workload = Workload("s0", seed)
    planned = list(workload.opening(NOW))
    while len(planned) < count:
        planned += workload.following(NOW + len(planned))
    return [*planned, *workload.poison(NOW)]


def test_a_seed_replays_the_workload() -> None:
    """The same times, the same inputs."""
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_what_is_to_be_refused_is_and_nothing_else() -> None:
    """By the decoder of workers, for the planned reason."""
    decode = InputDecoder(PRICED)
    for number, one in enumerate(drawn(1)):
        at = Position(one.topic, 0, number, one.timestamp or NOW)
        try:
            decode(at, one.key, one.value, NOW + 10_000)
            reason = None
        except InvalidRecord as error:
            reason = error.reason
        assert reason == one.reason, one


def folded(planned: list[Planned], seed: int) -> dict[bytes, UserRow]:
    """The rows of an order of all topics that keeps each topic's own."""
    decode, rng, rows = InputDecoder(PRICED), random.Random(seed), dict[bytes, UserRow]()
    queues: dict[str, list[tuple[Position, Planned]]] = {}
    for number, one in enumerate(planned):
        queues.setdefault(one.topic, []).append((Position(one.topic, 0, number, one.timestamp or NOW + number), one))
    order = [topic for topic, queue in queues.items() for _ in queue]
    rng.shuffle(order)
    heads = {topic: iter(queue) for topic, queue in queues.items()}
    for topic in order:
        at, one = next(heads[topic])
        record = decode(at, one.key, one.value, NOW + 10_000)
        if record is not None and not isinstance(record, Item):
            assert one.key is not None
            rows[one.key] = apply_input(rows.get(one.key, EMPTY), record, at, PRICED)
    return rows


def test_its_fold_does_not_depend_on_the_order() -> None:
    """So rows can be compared at all; and of some users more comes than a window holds."""
    planned = [one for one in drawn(2) if one.reason is None]
    first, second = folded(planned, 1), folded(planned, 2)
    for user, row in first.items():
        other = second[user]
        assert (row.events, row.lists, row.attributes, row.erased_at) == (
            other.events, other.lists, other.attributes, other.erased_at,
        )  # fmt: skip
        assert (row.revision, row.count, row.applied) == (other.revision, other.count, other.applied), user
    assert min(row.count for user, row in first.items() if user_kind(user.decode()) == STEADY) > PRICED.window
