"""What a ranking says of why its items stand where they do: compared with rankings that never knew of each thing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from online_learning.releases.writing import Provenance, publish_model
from ranker.contracts.clock import now_ms
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, RankReason, User
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema
from ranker.items.catalog import Catalog
from ranker.network.export import SCORE_INPUTS, ScoreGraph
from ranker.network.transformer import Ranker
from ranker.registry.bundle import fetch_bundle, new_version
from ranker.registry.settings import RegistrySettings
from ranker.serving.explaining import explain
from ranker.serving.exploration import explore
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.serving.reasons import EXPLAINED_EVENTS, EXPLAINED_ITEMS, reasons_of
from ranker.serving.rules import Rules
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import EncodedText
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_model, tiny_tables

T0 = 1_700_000_000_000
SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(CandidateFeature(name="price"), CandidateFeature(name="stars")),
    context=(ContextField(name="age"), ContextField(name="hour")),
    item_numeric=("weight",),
    half_life_hours=0.5,
    window=32,
)
CATALOGUE = [f"item-{number}" for number in range(40)]
_TOPICS: dict[type, str] = {User: "users", Interaction: "interactions", CandidateList: "candidates"}


def network_of(kind: str) -> Ranker:
    """The weights of a model, with or without a list block; scores are far from 0 and 1, where little moves them."""
    network = tiny_model(SCHEMA, seed=2, list_block=kind == "list block")
    with torch.no_grad():
        for weight in (*network.outcomes.parameters(), *network.match.parameters()):
            weight.mul_(0.2)
    return network


@pytest.fixture(scope="module", params=["plain", "list block"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, network = tmp_path_factory.mktemp("registry"), network_of(kind)
    version = new_version(now_ms())
    about = Provenance(model="default", schema=SCHEMA, encoder=ENCODER, created=now_ms(), version=version)
    publish_model(network, tiny_tables(network.config, CATALOGUE), about, str(home))
    return fetch_bundle(RegistrySettings(address=str(home)), version, home / "local")


def loaded(folder: Path, rules: Rules | None = None) -> ServingModel:
    catalog = Catalog(SCHEMA.item_numeric)
    for number, item in enumerate(CATALOGUE):
        numeric = {"weight": 3.0 + number} if number % 3 else {}
        catalog.put(Item(item_id=item, category=f"c{number % 4}", numeric=numeric, published_at=T0 - number * 10**8))
    return load_model(folder, catalog, ServingOptions(rules=rules or Rules()))


@pytest.fixture(scope="module")
def model(folder: Path) -> ServingModel:
    return loaded(folder)


def records(events: int, items: int = 12, asks: int = 10, **without: Any) -> list[UserInput]:
    """What a user sent: attributes, events, a list of which an item lacks a price."""
    rng = np.random.default_rng(5)
    did = [
        Interaction(
            user_id="u", item_id=CATALOGUE[int(rng.integers(20))], action=("view", "click")[number % 2],
            event_id=f"e{number}", ts=T0 + 60_000 * number,
        )
        for number in range(events)
    ]  # fmt: skip
    prices = [None if number == without.get("price") else 5.0 + number % 7 for number in range(items)]
    listed = [
        Candidate(item_id=item, features={"stars": 3.0, **({} if price is None else {"price": price})})
        for item, price in zip(CATALOGUE, prices, strict=False)
    ]
    context = {} if "hour" in without else {"hour": 9.0}
    attributes = {} if "age" in without else {"age": 30.0}
    return [
        User(user_id="u", attributes=attributes, ts=T0), *did,
        CandidateList(request_id="r", user_id="u", items=listed, ts=T0 + 4_000_000, context=context, reasons=asks),
    ]  # fmt: skip


def folded(given: Sequence[UserInput]) -> UserRow:
    row = EMPTY
    for offset, record in enumerate(given):
        row = apply_input(row, record, Position(_TOPICS[type(record)], 0, offset, T0), SCHEMA)
    return row


def scores(model: ServingModel, row: UserRow) -> dict[str, float]:
    (ranked,) = model.rank([("somebody", row)])
    model.forget("somebody")
    return dict(zip(ranked.item_ids, ranked.scores.tolist(), strict=True))


def told(model: ServingModel, row: UserRow) -> dict[str, list[RankReason]]:
    """The reasons of a list's items, best first."""
    (ranked,) = model.rank([("u", row)])
    return dict(zip(ranked.item_ids, reasons_of(model, "u", row, ranked, ranked), strict=False))


@pytest.mark.parametrize("events", [0, 1, 5, 32, 33, 60])
def test_an_event_is_worth_what_the_score_would_be_without_it(model: ServingModel, events: int) -> None:
    """Of each item, on either side of the window's steps; an event that is named first matters more when it is left out
    than one that is named last, and the one that matters most of the newest is named."""
    given = records(events)
    row = folded(given)
    whole, found = scores(model, row), told(model, row)
    named = {one.ts for some in found.values() for one in some if one.kind == "event"}
    without = {
        ts: scores(model, folded([one for one in given if isinstance(one, User) or one.ts != ts])) for ts in named
    }
    assert len(named) <= EXPLAINED_EVENTS and bool(named) == bool(events)
    for item, some in found.items():
        left_out = []
        for one in (one for one in some if one.kind == "event"):
            assert one.ts is not None
            if events <= SCHEMA.window:  # else an event that the row has let go of would come back
                assert one.effect == pytest.approx(whole[item] - without[one.ts][item], abs=1e-5)
            left_out.append(abs(one.effect))
        assert left_out == sorted(left_out, reverse=True)
        if len(left_out) > 1 and events <= SCHEMA.window:
            first, last = some_events(some)[0], some_events(some)[-1]
            assert abs(whole[item] - without[first.ts][item]) > abs(whole[item] - without[last.ts][item])
    newest = sorted(one.ts for one in given if isinstance(one, Interaction))[-EXPLAINED_EVENTS:]
    strongest = max(
        ((one, explained) for explained in explain(model, "u", row, list(found)) for one in explained.reasons
         if one.kind == "event" and one.ts in newest), key=lambda each: abs(each[0].effect), default=None,
    )  # fmt: skip
    if strongest is not None:
        one, explained = strongest
        assert abs(one.effect) > 1e-3
        assert some_events(found[explained.item_id])[0].ts == one.ts


def test_what_was_typed_is_worth_what_it_changes(model: ServingModel) -> None:
    """Each text by itself, named by its time and by what it was; the text is in no reason, since nothing keeps it."""
    rng, row, typed_at = np.random.default_rng(7), folded(records(3, asks=20)), (T0 + 4_100_000, T0 + 4_200_000)
    before = row
    for number, (ts, action) in enumerate(zip(typed_at, ("search", "comment"), strict=True)):
        event = Interaction(user_id="u", text="space war", action=action, event_id=f"t{number}", ts=ts)
        vector = EncodedText(ENCODER, rng.integers(-127, 127, ENCODER_WIDTH).astype(np.int8).tobytes())
        row = apply_input(row, event, Position("interactions", 0, 100 + number, T0), SCHEMA, typed=vector)
    assert before.words == () and len(row.words) == 2
    whole, told_of = scores(model, row), 0
    for item, some in told(model, row).items():
        for one in (one for one in some if one.kind == "words"):
            told_of += 1
            left = tuple(words for words in row.words if words.ts != one.ts)
            assert one.effect == pytest.approx(whole[item] - scores(model, replace(row, words=left))[item], abs=1e-5)
            ago = {typed_at[0]: "searched for 2 min ago", typed_at[1]: "wrote just now"}[one.ts or 0]
            assert one.words.endswith(f"what you {ago}") and "space war" not in one.words
    assert told_of > 2


def some_events(some: Sequence[RankReason]) -> list[Any]:
    """Those that are events."""
    return [one for one in some if one.kind == "event"]


def test_a_relation_is_worth_its_term_of_the_sum(model: ServingModel, kind: str) -> None:
    """Against torch, with that one entry of the matrix of relations taken out, and everything else as it was."""
    row = folded(records(9))
    ((_, inputs),) = model.inputs([("u", row)])
    feed = model.scorer.feed([inputs], model.scorer.encode([("u", inputs)]))
    network, length = network_of(kind), len(inputs.history)
    graph, relate = ScoreGraph(network), network.relations._relate

    def worth(column: int | None) -> np.ndarray:
        def cut(*given: Any) -> torch.Tensor:
            matrix = relate(*given).clone()
            if column is not None:
                matrix[:, :, column] = 0
            return matrix

        network.relations._relate = cut  # type: ignore[method-assign]
        with torch.no_grad():
            logits = graph(*(torch.tensor(feed[name]) for name in SCORE_INPUTS))
        found: np.ndarray = model.worth(model.chances(logits.numpy()))[0]
        return found

    whole, checked = worth(None), set()
    for item, some in told(model, row).items():
        place = CATALOGUE.index(item)
        for one in some_events(some):
            at = (one.ts - T0) // 60_000
            for number, name in enumerate(("same item", "same category", "similar text", "chosen together")):
                if name in one.related:
                    checked.add(name)
                    part = whole[place] - worth(number * length + at)[place]
                    assert one.related[name] == pytest.approx(part, abs=2e-5)
    assert checked >= {"same item", "same category", "chosen together"}


def test_features_context_and_attributes_are_worth_what_they_change(model: ServingModel, kind: str) -> None:
    """Of one item each, as if its own list did not say it; an item that has no price has no reason of it."""
    row = folded(records(4))
    whole, found = scores(model, row), told(model, row)
    reasons = {(item, one.kind, one.name): one for item, some in found.items() for one in some}
    assert {name for _, what, name in reasons if what == "feature"} >= {"price", "stars", "choices", "weight"}
    for place, item in enumerate(CATALOGUE[:12]):
        if (price := reasons.get((item, "feature", "price"))) is not None:
            without = scores(model, folded(records(4, price=place)))
            if kind == "plain":  # else the others' prices, which are told beside the list's mean, move it too
                assert price.effect == pytest.approx(whole[item] - without[item], abs=1e-5)
            assert price.words.removeprefix("against it: ") == "its price"
            assert price.words.startswith("against it") == (price.effect < 0)
        for what, name in (("context", "hour"), ("attribute", "age")):
            if (one := reasons.get((item, what, name))) is not None:
                without = scores(model, folded(records(4, **{name: None})))
                assert one.effect == pytest.approx(whole[item] - without[item], abs=1e-5)
    missing = told(model, folded(records(4, price=2)))
    assert ("feature", "price") not in {(one.kind, one.name) for one in missing[CATALOGUE[2]]}
    assert not [one for item in CATALOGUE[0:12:3] for one in found[item] if one.name == "weight"]


def test_as_many_as_are_asked_for_and_the_strongest(model: ServingModel) -> None:
    """Two of the ten; of a long list the first items alone."""
    many, few = told(model, folded(records(20))), told(model, folded(records(20, asks=2)))
    assert {item: some[:2] for item, some in many.items()} == few
    assert all(len(some) == 2 for some in few.values())
    assert len(told(model, folded(records(3, items=30)))) == EXPLAINED_ITEMS


def test_an_item_is_named_as_the_list_or_the_catalogue_has_it(model: ServingModel) -> None:
    """Of an event on the list, of one on another item, and of one that nobody has described."""
    *_, listed = records(0)
    did = [
        Interaction(user_id="u", item_id=item, action="click", event_id=item, ts=T0 + 3_940_000 + at)
        for at, item in enumerate(("item-1", "item-15", "a stranger"))
    ]
    found = told(model, folded([*did, listed]))
    names = {one.ts: one.item_id for some in found.values() for one in some_events(some)}
    assert names == {T0 + 3_940_000: "item-1", T0 + 3_940_001: "item-15", T0 + 3_940_002: None}
    own = next(one for one in found["item-1"] if one.ts == T0 + 3_940_000)
    assert set(own.related) == {"same item", "same category"}
    if max(own.related, key=lambda name: own.related[name] * np.sign(own.effect)) == "same item":
        assert own.words.removeprefix("against it: ") == "you clicked on it 1 min ago"
    below = next(one for one in found["item-3"] if one.ts == T0 + 3_940_000)
    assert "distance" in below.related and "same category" not in below.related


@pytest.mark.parametrize("rules", [Rules(category_boosts={"c3": 1e3}), Rules(category_cap=1, cap_depth=4)])
def test_a_rule_says_where_the_item_would_stand(folder: Path, rules: Rules) -> None:
    """Of each item that it moves, and of no other; a boost says what it adds to the score."""
    plain, ruled, row = loaded(folder), loaded(folder, rules), folded(records(5))
    before, whole = list(scores(plain, row)), scores(plain, row)
    for rank, (item, some) in enumerate(told(ruled, row).items(), 1):
        moved = [one for one in some if one.kind == "rule"]
        without = before.index(item) + 1
        assert [one.rank_without for one in moved] == ([without] if without != rank else [])
        for one in moved:
            assert one is some[0] and f"place {without} by a rule" in one.words
            boosted = rules.category_boosts and CATALOGUE.index(item) % 4 == 3
            assert one.effect == pytest.approx(999 * whole[item] if boosted else 0.0, rel=1e-4)


def test_exploration_says_where_the_item_would_stand(model: ServingModel) -> None:
    """It comes first of an item's reasons, and the items are those that are shown."""
    row = folded(records(5))
    (ranked,) = model.rank([("u", row)])
    shown = explore(ranked, 1.0, 2, "a draw")
    assert shown.item_ids != ranked.item_ids
    for rank, (item, some) in enumerate(
        zip(shown.item_ids, reasons_of(model, "u", row, ranked, shown), strict=True), 1
    ):
        without = ranked.item_ids.index(item) + 1
        assert [one.rank_without for one in some if one.kind == "exploration"] == ([without] if without != rank else [])
        if without != rank:
            way = "up" if rank < without else "down"
            assert some[0].words == f"moved {way} from place {without} by chance, to learn what people like"


def test_reasons_leave_nothing_behind(folder: Path) -> None:
    """The next ranking is the same, no memory is kept of people who never were; a list that shows nothing has none."""
    model, row = loaded(folder), folded(records(30))
    before = scores(model, row)
    told(model, row)
    assert list(model.scorer.cache) == ["u"]
    assert scores(model, row) == before
    for item in CATALOGUE[:12]:
        model.catalog.withdraw(item)
    assert told(model, row) == {}
    assert told(model, replace(row, events=b"", count=0, summary=b"")) == {}
