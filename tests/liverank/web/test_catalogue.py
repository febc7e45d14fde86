"""The items that lists are drawn from."""

from __future__ import annotations

from random import Random

from liverank.web.catalogue import KnownItems, ShownItem
from ranker.contracts.records import Candidate, Item


def test_the_newest_items_are_known() -> None:
    """So many at most; what is described anew is new, what is withdrawn is gone."""
    known = KnownItems(3)
    for name in ("a", "b", "c", "a", "d"):
        known.put(Item(item_id=name))
    known.withdraw("d")
    known.withdraw("never-seen")
    assert {one.candidate.item_id for one in known.drawn(9, Random(0))} == {"c", "a"}


def test_a_list_has_different_items_as_long_as_there_are_any() -> None:
    """Drawn with the same luck it is the same one; of nothing it is empty."""
    known = KnownItems(100)
    assert known.drawn(5, Random(0)) == []
    for number in range(40):
        known.put(Item(item_id=f"i{number}"))
    drawn = [one.candidate.item_id for one in known.drawn(12, Random(1))]
    assert len(set(drawn)) == 12
    assert drawn == [one.candidate.item_id for one in known.drawn(12, Random(1))]


def test_an_item_is_shown_by_what_is_known_of_it() -> None:
    """Its id where it has no title; a price where it has one; as a candidate those numbers that the schema declares."""
    known = KnownItems(9)
    known.put(Item(item_id="bare"))
    assert known.drawn(1, Random(0)) == [ShownItem(candidate=Candidate(item_id="bare"), title="bare")]
    known.withdraw("bare")
    known.put(Item(item_id="b", title="A red bicycle", category="bikes", numeric={"price": 99.5, "weight": 12.0}))
    (shown,) = known.drawn(1, Random(0), ["weight", "colour"])
    assert shown == ShownItem(
        candidate=Candidate(item_id="b", features={"weight": 12.0}), title="A red bicycle", category="bikes", price=99.5
    )
