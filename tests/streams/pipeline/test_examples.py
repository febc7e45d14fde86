"""What is remembered of rankings, for the examples that come of them."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest

from ranker.contracts.records import Interaction
from streams.pipeline.examples import LastRanking, ranking_bytes


def ranking(revision: int, order: str, *earlier: LastRanking) -> LastRanking:
    ranks = np.array([order.find(item) + 1 for item in "abcd"])
    return LastRanking(tuple("abcd"), f"u:r:{revision}:v", revision, "v", ranks, earlier=earlier)


LAST = ranking(9, "cab", ranking(8, "bca"), ranking(7, "abc"))


@pytest.mark.parametrize(
    ("named", "order"),
    [
        ({}, "cab"),
        ({"revision": 9}, "cab"),
        ({"revision": 8}, "bca"),
        ({"ranking_id": "u:r:7:v"}, "abc"),
        ({"ranking_id": "u:r:8:v", "revision": 8}, "bca"),
        ({"ranking_id": "u:r:8:v", "revision": 7}, None),
        ({"revision": 2}, None),
    ],
)
def test_an_event_may_name_the_ranking_that_was_shown(named: dict[str, object], order: str | None) -> None:
    """One that is not remembered is none: the last one is no guess at it."""
    event = Interaction(user_id="u", item_id="a", action="click", **named)
    shown = LAST.shown_to(event)
    assert (shown and shown.ranks.tolist()) == (order and [order.find(item) + 1 for item in "abcd"])


def test_a_rank_is_of_an_item_that_was_shown() -> None:
    """From 1; of one that was left out, or is of no list, there is none."""
    assert [LAST.rank_of(item) for item in "abcdz"] == [2, 3, 1, None, None]
    assert LAST.shown_to("r") is LAST


def test_ranks_of_another_list_are_by_item() -> None:
    """A list that came anew under its request's name has some of the items, in another order."""
    assert LAST.ranks_of(tuple("zcda")).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("items", "explores"), [(100, False), (1000, True), (3, False)])
def test_the_size_of_a_ranking_is_about_what_its_objects_take(items: int, explores: bool) -> None:
    """Within a third: the budget means what it says."""
    ids = [f"item-{number:06}" for number in range(items)]

    def remembered(number: int, listed: tuple[str, ...], *earlier: LastRanking) -> LastRanking:
        ranks, chances = np.arange(items, dtype=np.int32), np.ones(items) if explores else None
        name = f"user-{number}:request:{7 - len(earlier)}:v"
        return LastRanking(listed, name, 7, "v", ranks, chances, np.ones((items, 3), np.float32), earlier)

    def one(number: int) -> LastRanking:
        listed = tuple(msgspec.json.decode(msgspec.json.encode(ids)))
        before = [msgspec.structs.replace(remembered(number, listed), statistics=None) for _ in range(2)]
        return remembered(number, listed, *before)

    one(0)
    tracemalloc.start()
    try:
        held = [one(number) for number in range(100)]
        taken = tracemalloc.get_traced_memory()[0] / len(held)
    finally:
        tracemalloc.stop()
    assert 0.75 * taken < ranking_bytes(held[0]) < 1.33 * taken + 500
