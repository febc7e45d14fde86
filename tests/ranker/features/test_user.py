"""Features are what they say, from the past alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.features.list import cut, list_inputs
from ranker.features.names import context_names, feature_names
from ranker.features.user import KeptFeatures, UserInputs, user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY
from tests.support.tiny import tiny_config, tiny_tables

WAYS = (Normalise.NONE, Normalise.LOG, Normalise.LIST, Normalise.LIST_RANK)
SCHEMA = FeatureSchema(
    candidate_features=(CandidateFeature(name="price", normalise=WAYS),),
    context=(ContextField(name="device", values=("phone", "desk")), ContextField(name="nights")),
    item_numeric=("stars",),
)
T0 = 1_700_000_000_000


def inputs_of(prices: list[float | None], context: dict[str, str | float] | None = None) -> UserInputs:
    catalog = Catalog(SCHEMA.item_numeric)
    catalog.put(Item(item_id="i0", numeric={"stars": 3.0}))
    items = [Candidate(item_id=f"i{at}", features={"price": price}) for at, price in enumerate(prices)]
    listed = CandidateList(request_id="r", user_id="u", items=items, ts=T0 + 10_000, context=context)
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), SCHEMA)
    for offset, (item, ts) in enumerate((("i1", 0), ("elsewhere", 4000))):
        event = Interaction(user_id="u", item_id=item, action="view", event_id=item, ts=T0 + ts)
        row = apply_input(row, event, Position("views", 0, offset, T0), SCHEMA)
    tables = ItemTables(tiny_tables(tiny_config(SCHEMA), ["i1", "i2"]), catalog, "none")
    return user_inputs(row, list_inputs(row, catalog, SCHEMA), tables, SCHEMA)


def column(inputs: UserInputs, name: str) -> list[float]:
    return [round(number, 4) for number in inputs.features[:, feature_names(SCHEMA).index(name)].tolist()]


def test_every_number_has_a_name() -> None:
    """As many columns as names, for candidates and for the context."""
    inputs = inputs_of([1.0, 2.0])
    assert inputs.features.shape == (2, len(feature_names(SCHEMA)))
    assert inputs.context.shape == (len(context_names(SCHEMA)),)


def test_an_action_of_a_later_schema_is_read_as_a_view() -> None:
    """A row may hold one, where one went back to an earlier schema: it is an event like others, and nothing breaks."""
    later = FeatureSchema(actions=(*FeatureSchema().actions, Action(name="save", positive=True)))
    listed = CandidateList(request_id="r", user_id="u", items=[Candidate(item_id="i1")], ts=T0)
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), later)
    for offset, action in enumerate(("click", "save")):
        event = Interaction(user_id="u", item_id="i1", action=action, event_id=action, ts=T0 + offset)
        row = apply_input(row, event, Position("interactions", 0, offset, T0), later)
    tables = ItemTables(tiny_tables(tiny_config(FeatureSchema()), []), Catalog(), "none")
    found = user_inputs(row, list_inputs(row, tables.catalog, FeatureSchema()), tables, FeatureSchema())
    assert found.action.tolist() == [1, 0]


def test_normal_forms_of_a_given_feature() -> None:
    """Each declared form by hand, a missing value neutral and marked."""
    inputs = inputs_of([10.0, None, 30.0])
    assert column(inputs, "price:none") == [10.0, 0.0, 30.0]
    assert column(inputs, "price:log") == [2.3979, 0.0, 3.434]
    assert column(inputs, "price:list") == [-0.995, 0.0, 0.995]  # 10 / (10 + 0.05)
    assert column(inputs, "price:list-rank") == [0.0, 0.0, 1.0]
    assert column(inputs, "price:missing") == [0.0, 1.0, 0.0]


def test_candidates_know_how_far_they_are_from_what_was_touched() -> None:
    """Differences of logarithms to the last touched item of the list and to the mean of all touched ones."""
    inputs = inputs_of([0.0, 9.0, 99.0])  # of these i1 was touched
    distance = np.clip(np.log([1, 10, 100]) - np.log(10), -2, 2)
    np.testing.assert_allclose(column(inputs, "price:from-last"), distance, atol=1e-3)
    np.testing.assert_allclose(column(inputs, "price:off-mean"), np.abs(distance), atol=1e-3)


def test_a_list_without_any_value_is_all_missing() -> None:
    """No candidate with a price: neutral everywhere, no warning and no NaN."""
    inputs = inputs_of([None, None])
    assert column(inputs, "price:missing") == [1.0, 1.0]
    assert np.isfinite(inputs.features).all()


def test_context_is_one_hot_or_a_number() -> None:
    """A declared value is a one, an undeclared one none; a number goes by its logarithm, absent ones are 0."""
    names = context_names(SCHEMA)
    given = dict(zip(names, inputs_of([1.0], {"device": "desk", "nights": 2}).context.tolist(), strict=True))
    assert (given["device=phone"], given["device=desk"]) == (0.0, 1.0)
    assert given["nights=number"] == pytest.approx(np.log(3))
    absent = dict(zip(names, inputs_of([1.0], {"device": "tv"}).context.tolist(), strict=True))
    assert (absent["device=phone"], absent["device=desk"], absent["nights=number"]) == (0.0, 0.0, 0.0)


def test_events_know_their_place_in_the_list_and_their_age() -> None:
    """An event's item is found in the shown list or marked absent; gap and age are logarithms of seconds."""
    inputs = inputs_of([1.0, 2.0])
    assert inputs.hist_item.tolist() == [hash_id("i1"), hash_id("elsewhere")]
    assert inputs.hist_pos.tolist() == [1, -1]
    np.testing.assert_allclose(inputs.gap, np.log1p([0, 4]), rtol=1e-5)
    np.testing.assert_allclose(inputs.age, np.log1p([10, 6]), rtol=1e-5)


def test_the_moment_knows_what_was_done_last() -> None:
    """Events since the last positive action, or a window where there is none; whether the last item is of the list,
    and which share of the list was touched."""
    names = context_names(SCHEMA)
    listed = CandidateList(request_id="r", user_id="u", items=[Candidate(item_id=f"i{n}") for n in range(4)], ts=T0)
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), SCHEMA)
    tables = ItemTables(tiny_tables(tiny_config(SCHEMA), []), Catalog(SCHEMA.item_numeric), "none")
    kept, found = KeptFeatures(), []
    for offset, (item, action) in enumerate([("i1", "view"), ("x", "click"), ("i1", "view"), ("i2", "view")]):
        event = Interaction(user_id="u", item_id=item, action=action, event_id=f"e{offset}", ts=T0 + offset)
        row = apply_input(row, event, Position("interactions", 0, offset, T0), SCHEMA)
        inputs = list_inputs(row, tables.catalog, SCHEMA)
        for made in (user_inputs(row, inputs, tables, SCHEMA), user_inputs(row, inputs, tables, SCHEMA, kept=kept)):
            known = dict(zip(names, made.context.tolist(), strict=True))
            found.append((known["log_since_positive"], known["last_in_list"], known["share_touched"]))
        kept = KeptFeatures(kept.history)  # the list's inputs are others each time
    since = [math.log1p(events) / 4 for events in (SCHEMA.window, 0, 1, 2)]
    expected = zip(since, (1, -1, 1, 1), (0.25, 0.25, 0.25, 0.5), strict=True)
    assert found == [pytest.approx(one) for one in expected for _ in range(2)]


def test_co_visitation_relates_candidates_to_recent_events() -> None:
    """A candidate that often follows an event's item has that strength, others and unknown items none."""
    catalog = Catalog()
    arrays = tiny_tables(tiny_config(SCHEMA), ["a", "b", "c"], neighbours=1)
    tables = ItemTables(arrays, catalog, "none")
    history = np.array([catalog.index_of[hash_id("a")], 0])
    found = tables.covisits(history, {hash_id("c"): 0, hash_id("b"): 1}, 2)
    assert found[0].tolist() == [0, 0]
    assert found[1, 0] == arrays.strengths[0, 0] > 0


@pytest.mark.parametrize("largest", [3.4028235e38, -3.4028235e38])
def test_extreme_numbers_give_finite_features(largest: float) -> None:
    """The largest numbers that records may hold, in every form, beside ordinary ones and beside each other."""
    for prices in ([largest, 1.0], [largest, largest], [largest, -largest, None], [largest] * 1000):
        inputs = inputs_of(prices, {"nights": largest})
        assert np.isfinite(inputs.features).all()
        assert np.isfinite(inputs.context).all()


def test_ordinary_numbers_are_not_cut() -> None:
    """A time in milliseconds is the largest number that means something: it and smaller ones stay to the bit."""
    values = np.array([0.1, -59.9, 1e7, 1.79e12, np.nan], np.float32)
    np.testing.assert_array_equal(cut(values), values)
    assert cut(values).dtype == np.float32
