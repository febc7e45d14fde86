"""What an item's place is said to be due to: compared with rankings of rows that never knew of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ranker.contracts.errors import LiverankError
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings
from ranker.serving.explaining import explain
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.serving.rules import Rules
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from tests.support.tiny import tiny_bundle

T0 = 1_700_000_000_000
SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(CandidateFeature(name="price"), CandidateFeature(name="stars")),
    context=(ContextField(name="age"), ContextField(name="hour")),
    half_life_hours=0.1,
    window=8,
)
ITEMS = [f"item-{number}" for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    return fetch_bundle(RegistrySettings(address=str(home)), tiny_bundle(home, SCHEMA), home / "local")


def loaded(folder: Path, rules: Rules | None = None) -> ServingModel:
    catalog = Catalog(SCHEMA.item_numeric)
    for number, item in enumerate(ITEMS):
        catalog.put(Item(item_id=item, category=f"c{number % 2}"))
    return load_model(folder, catalog, ServingOptions(rules=rules or Rules()))


@pytest.fixture(scope="module")
def model(folder: Path) -> ServingModel:
    return loaded(folder)


def inputs(events: int, prices: Sequence[float | None] = (), hour: float | None = 9.0) -> list[UserInput]:
    """What a user sent: attributes, events hours ago, a list."""
    rng = np.random.default_rng(3)
    did = [
        Interaction(
            user_id="u", item_id=ITEMS[int(rng.integers(len(ITEMS)))], action=("view", "click")[number % 2],
            event_id=f"e{number}", ts=T0 + 60_000 * number,
        )
        for number in range(events)
    ]  # fmt: skip
    items = [
        Candidate(item_id=item, features={"price": price, "stars": 3.0} if price else {"stars": 3.0})
        for item, price in zip(ITEMS, [*prices, *[None] * len(ITEMS)], strict=False)
    ]
    context = {} if hour is None else {"hour": hour}
    listed = CandidateList(request_id="r", user_id="u", items=items, ts=T0 + 40_000_000, context=context)
    return [User(user_id="u", attributes={"age": 30.0}, ts=T0), *did, listed]


def folded(records: Sequence[UserInput]) -> UserRow:
    row = EMPTY
    for offset, record in enumerate(records):
        topic = {User: "users", Interaction: "interactions", CandidateList: "candidates"}[type(record)]
        row = apply_input(row, record, Position(topic, 0, offset, T0), SCHEMA)
    return row


def scores(model: ServingModel, row: UserRow) -> dict[str, float]:
    (ranked,) = model.rank([("somebody", row)])
    model.forget("somebody")
    return dict(zip(ranked.item_ids, ranked.scores.tolist(), strict=True))


@pytest.mark.parametrize("events", [0, 1, 7, 8, 12])  # with 9 it would be one that the row has let go of
def test_an_event_is_worth_what_the_score_would_be_without_it(model: ServingModel, events: int) -> None:
    """Each visible event, on either side of the window's steps, against a row folded without it; what is named first
    changes the score more than what is named last."""
    records = inputs(events)
    row, item = folded(records), ITEMS[2]
    (found,) = explain(model, "u", row, [item])
    whole = scores(model, row)
    assert found.score == pytest.approx(whole[item], abs=1e-6)
    told = [one for one in found.reasons if one.kind == "event"]
    assert len(told) == len(row.visible(SCHEMA.window)) // 35
    for one in told:
        without = scores(
            model,
            folded([record for record in records if getattr(record, "ts", 0) != one.ts or isinstance(record, User)]),
        )
        assert one.effect == pytest.approx(whole[item] - without[item], abs=1e-5)
        assert one.rank_without == 1 + sum(score > without[item] for score in without.values())
    if told:
        assert abs(told[0].effect) >= abs(told[-1].effect) and abs(told[0].effect) > 1e-4


def test_features_context_and_attributes_are_worth_what_they_change(model: ServingModel) -> None:
    """A price that only some items have, a field of the list and one of the user; others' features are none of it."""
    row, item = folded(inputs(3, prices=[5.0, None, 7.0])), ITEMS[2]
    (found,) = explain(model, "u", row, [item])
    told = {(one.kind, one.name): one for one in found.reasons}
    assert set(told) >= {("feature", "price"), ("feature", "stars"), ("attribute", "age"), ("context", "hour")}
    whole = scores(model, row)[item]
    without_price = scores(model, folded(inputs(3, prices=[5.0, None, None])))[item]
    assert told["feature", "price"].effect == pytest.approx(whole - without_price, abs=1e-6)
    without_hour = scores(model, folded(inputs(3, prices=[5.0, None, 7.0], hour=None)))[item]
    assert told["context", "hour"].effect == pytest.approx(whole - without_hour, abs=1e-6)
    without_age = scores(model, folded(inputs(3, prices=[5.0, None, 7.0])[1:]))[item]
    assert told["attribute", "age"].effect == pytest.approx(whole - without_age, abs=1e-6)
    (other,) = explain(model, "u", row, [ITEMS[1]])
    assert ("feature", "price") not in {(one.kind, one.name) for one in other.reasons}
    assert found.nobody == pytest.approx(scores(model, UserRow(lists=row.lists))[item], abs=1e-6)


def test_relations_say_how_an_event_has_to_do_with_the_item(model: ServingModel) -> None:
    """The same item, one of its category, one beside it in the list."""
    clicked = Interaction(user_id="u", item_id=ITEMS[2], action="click", event_id="e", ts=T0 + 39_999_000)
    *_, listed = inputs(0)
    same, alike, other = explain(model, "u", folded([clicked, listed]), [ITEMS[2], ITEMS[4], ITEMS[3]])
    related = {
        found.item_id: next(one.related for one in found.reasons if one.kind == "event")
        for found in (same, alike, other)
    }
    assert related[ITEMS[2]] == ("the same item",)
    assert "same category" in related[ITEMS[4]] and "2 below it in the list" in related[ITEMS[4]]
    assert "same category" not in related[ITEMS[3]] and "1 below it in the list" in related[ITEMS[3]]
    assert {one.item_id for found in (same, alike) for one in found.reasons if one.kind == "event"} == {ITEMS[2]}


def test_rules_are_told_from_scores(folder: Path) -> None:
    """A lifted category, an item that was withdrawn, and a list that shows two."""
    plain, row = loaded(folder), folded(inputs(3))
    order = list(scores(plain, row))
    last = order[-1]
    category = f"c{ITEMS.index(last) % 2}"
    boosted = loaded(folder, Rules(category_boosts={category: 1e6}))
    (lifted,) = explain(boosted, "u", row, [last])
    assert lifted.rank_by_score == len(ITEMS) and lifted.rank is not None and lifted.rank < lifted.rank_by_score
    boosted.catalog.withdraw(last)
    (gone,) = explain(boosted, "u", row, [last])
    assert gone.rank is None


def test_a_history_that_has_let_events_go_is_explained(model: ServingModel) -> None:
    """By what the row holds, also where one event less would have the model look further back."""
    (found,) = explain(model, "u", folded(inputs(9)), [ITEMS[2]])
    told = [one.effect for one in found.reasons if one.kind == "event"]
    assert len(told) == 5 and np.isfinite(told).all() and max(map(abs, told)) > 1e-4


def test_an_explanation_leaves_nothing_behind(model: ServingModel) -> None:
    """The next ranking is the same, and no memory is kept of rows that never were."""
    row = folded(inputs(5))
    before = scores(model, row)
    explain(model, "u", row, ITEMS)
    assert scores(model, row) == before
    assert not model.scorer.cache
    with pytest.raises(LiverankError, match="hat is not in the list 'r': item-0"):
        explain(model, "u", row, [ITEMS[0], "hat"])
