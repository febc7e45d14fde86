"""Item tables that take texts over from another version's are those that compute everything themselves."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.contracts.ids import hash_id
from ranker.contracts.records import Item, ItemVector
from ranker.contracts.schema import FeatureSchema
from ranker.items import tables
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables, TableArrays
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_config, tiny_tables

CONFIG = tiny_config(FeatureSchema())
ITEMS = [f"item-{number}" for number in range(12)]


def arrays(seed: int, **changes: np.ndarray) -> TableArrays:
    """Rows of a version; all versions reduce texts alike, unless `changes` says otherwise."""
    made, first = tiny_tables(CONFIG, ITEMS[:8], seed), tiny_tables(CONFIG, [], 0)
    return msgspec.structs.replace(made, **{"reduction": first.reduction, **changes})


def describe(catalog: Catalog, item: str, seed: int, vector: bool) -> None:
    """Something becomes known of an item: its text's vector, or its category."""
    if vector:
        values = np.random.default_rng(seed).normal(size=ENCODER_WIDTH).astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=ENCODER, text_hash="0", vector=values))
    else:
        catalog.put(Item(item_id=item, category=f"category-{seed}"))


def assert_same(one: ItemTables, other: ItemTables) -> None:
    """Both hold the same of every item of the catalogue, once they know of its changes."""
    one.sync()
    other.sync()
    count = one.catalog.count
    for name in ("ids", "texts", "vectors", "statistics", "neighbours", "strengths"):
        ours, theirs = getattr(one, name)[:count], getattr(other, name)[:count]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("describe"), st.sampled_from(ITEMS), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("add"), st.integers(1, 9)),
        st.just(("sync",)),
    ),
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(steps, steps, steps)
def test_taking_over_is_computing_anew(before: list, between: list, after: list) -> None:
    """Whatever changed before the first version, between the two, or later, whether or not the first has seen it."""
    catalog = Catalog()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_ROWS_AT_ONCE", 3)
        run(before, catalog, None)
        first = ItemTables(arrays(1), catalog, ENCODER)
        run(between, catalog, first)
        second = ItemTables(arrays(2), catalog, ENCODER, first)
        run(after, catalog, first)
        assert_same(second, ItemTables(arrays(2), catalog, ENCODER))


def run(what: list, catalog: Catalog, first: ItemTables | None) -> None:
    """Let it happen."""
    for name, *given_ in what:
        if name == "describe":
            describe(catalog, *given_)
        elif name == "add":
            catalog.add(hash_id(f"new-{given_[0]}"))
        elif first is not None:
            first.sync()


def test_a_change_that_is_being_taken_over_meanwhile_is_not_lost() -> None:
    """The other version's thread may stand between taking a change up and having computed it."""
    catalog, made = Catalog(), []

    class Interrupted(ItemTables):
        meanwhile: Callable[[], None] = staticmethod(lambda: None)

        def _recompute(self, indexes: np.ndarray, *given: object) -> None:
            self.meanwhile()
            super()._recompute(indexes, *given)

    describe(catalog, ITEMS[0], 1, vector=True)
    first = Interrupted(arrays(1), catalog, ENCODER)
    describe(catalog, ITEMS[0], 2, vector=True)
    first.meanwhile = lambda: made.append(ItemTables(arrays(2), catalog, ENCODER, first))
    first.sync()
    (second,) = made
    assert_same(second, ItemTables(arrays(2), catalog, ENCODER))


def test_texts_are_computed_anew_where_they_are_reduced_in_another_way() -> None:
    """Another reduction, or another catalogue, makes other numbers of the same texts."""
    catalog = Catalog()
    describe(catalog, ITEMS[0], 1, vector=True)
    first = ItemTables(arrays(1), catalog, ENCODER)
    turned = arrays(2, reduction=-first.arrays.reduction)
    assert_same(ItemTables(turned, catalog, ENCODER, first), ItemTables(turned, catalog, ENCODER))
    elsewhere = Catalog()
    describe(elsewhere, ITEMS[0], 5, vector=True)
    assert_same(ItemTables(arrays(1), elsewhere, ENCODER, first), ItemTables(arrays(1), elsewhere, ENCODER))


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_column_has_room_for_every_item(added: list[tuple[int, bool]]) -> None:
    """Though texts came with the room of another version, and the items that come later are never described."""
    catalog = Catalog()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ranker.items.catalog._FIRST_ROOM", 4)
        made = [ItemTables(arrays(1), catalog, ENCODER)]
        for count, another in added:
            for _ in range(count):
                catalog.add(hash_id(f"new-{catalog.count}"))
            made[-1].sync()
            if another:
                made.append(ItemTables(arrays(2), catalog, ENCODER, made[-1]))
            for name in ("ids", "texts", "vectors", "statistics", "neighbours", "strengths", "changed_at"):
                assert len(getattr(made[-1], name)) >= catalog.count, name


def test_what_was_taken_over_is_ones_own() -> None:
    """A row that the new version computes again does not change under the old one, which still serves."""
    catalog = Catalog()
    describe(catalog, ITEMS[0], 1, vector=True)
    first = ItemTables(arrays(1), catalog, ENCODER)
    second = ItemTables(arrays(2), catalog, ENCODER, first)
    before = first.texts.copy()
    describe(catalog, ITEMS[0], 2, vector=True)
    second.sync()
    assert not np.array_equal(second.texts, before)
    np.testing.assert_array_equal(first.texts, before)


def test_adding_many_items_is_adding_each() -> None:
    """Known ones keep their index, new ones get the next, one named twice gets one; also over several slices."""
    hashes = [hash_id(f"{number % 7000}") for number in range(9000)]
    one, other = Catalog(), Catalog()
    for catalog in (one, other):
        catalog.add(hashes[5])
    assert one.add_all(np.array(hashes, np.int64)).tolist() == [other.add(item) for item in hashes]
    assert (one.count, one.index_of) == (other.count, other.index_of)
