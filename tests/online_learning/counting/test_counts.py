"""What is counted of visits: who follows whom, how far apart, and how often an item follows itself."""

from __future__ import annotations

import pytest

from online_learning.counting.counts import ItemCounts
from ranker.contracts.ids import hash_id
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from tests.support import stream
from tests.support.tiny import ENCODER, tiny_model, tiny_tables


def counted(*sessions: str) -> dict[str, dict[str, float]]:
    """Strengths after these sessions, by the letters that are their items."""
    letters = sorted(set("".join(sessions)))
    tables = ItemTables(tiny_tables(tiny_model(stream.SCHEMA).config, []), Catalog(), ENCODER)
    index = {letter: tables.catalog.add(hash_id(letter)) for letter in letters}
    name = {hash_id(letter): letter for letter in letters}
    counts = ItemCounts(tables)
    for session in sessions:
        for at, letter in enumerate(session):
            counts.follow([index[earlier] for earlier in session[:at]], index[letter])
    counts.write()
    return {
        letter: {
            name[item]: strength
            for item, strength in zip(
                tables.neighbours[index[letter]].tolist(), tables.strengths[index[letter]].tolist(), strict=True
            )
            if strength
        }
        for letter in letters
    }


def test_the_next_item_counts_most_and_the_way_back_little() -> None:
    """From a: b is next (1), c two on (1/4); from c back to a .3 of an inverse distance, from b back to a nothing."""
    found = counted("abc")
    assert found["a"] == pytest.approx({"b": 1 / 2.25, "c": 0.25 / 2.25})
    assert found["b"] == pytest.approx({"c": 1 / 2})
    assert found["c"] == pytest.approx({"a": 0.15 / 1.15})


def test_an_item_that_is_touched_again_at_once_follows_itself() -> None:
    """How often people stay is a strength like any other; coming back later is what the history itself says."""
    assert counted("aa")["a"] == pytest.approx({"a": 1 / 2})
    assert "a" not in counted("aba")["a"]


def test_strengths_grow_with_the_evidence() -> None:
    """The same share of all visits counts more where it was seen more often."""
    assert counted("ab", "ab", "ab")["a"]["b"] > counted("ab")["a"]["b"]


def test_what_a_bundle_knows_is_counted_on() -> None:
    """Strengths of the model that this starts from stand for visits: a new one moves them by its share."""
    tables = ItemTables(tiny_tables(tiny_model(stream.SCHEMA).config, ["a", "b"]), Catalog(), ENCODER)
    a, b = (tables.catalog.index_of[hash_id(item)] for item in "ab")
    tables.statistics[a], tables.strengths[a], tables.neighbours[a] = (0, 0, 9), 0, 0
    tables.strengths[a, 0], tables.neighbours[a, 0] = 0.5, hash_id("b")
    counts = ItemCounts(tables)
    counts.follow([a], b)
    counts.write()
    assert tables.neighbours[a, 0] == hash_id("b")
    assert tables.strengths[a, 0] == pytest.approx((0.5 * 9 + 1) / (0.5 * 9 + 1 + 1))
