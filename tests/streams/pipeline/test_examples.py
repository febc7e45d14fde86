"""What is remembered of rankings, for the examples that come of them."""

from __future__ import annotations

import pytest

from ranker.contracts.records import Interaction
from streams.pipeline.examples import LastRanking


def ranking(revision: int, order: str, *earlier: LastRanking, chances: tuple[float, ...] | None = None) -> LastRanking:
    return LastRanking(tuple("abc"), f"u:r:{revision}:v", revision, "v", tuple(order), chances, earlier=earlier)


LAST = ranking(9, "cab", ranking(8, "bca", chances=(1.0, 0.7, 0.3)), ranking(7, "abc"))


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
    assert (shown and shown.order) == (None if order is None else tuple(order))


def test_ranks_and_chances_are_by_item() -> None:
    """From 1; chances where the ranking explored."""
    assert LAST.ranks == {"c": 1, "a": 2, "b": 3}
    assert LAST.propensities == {}
    assert LAST.earlier[0].propensities == {"b": 1.0, "c": 0.7, "a": 0.3}
    assert LAST.shown_to("r") is LAST
