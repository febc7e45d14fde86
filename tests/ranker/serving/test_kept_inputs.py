"""What a model keeps of users' inputs between two rankings gives what would be made anew."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Erasure, Interaction, Item, ItemVector, User
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.features.list import list_inputs
from ranker.features.user import UserInputs, user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import pack_row
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import Budget, ServingOptions
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import EncodedText, quantised, typed_text
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_bundle

SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(CandidateFeature(name="price", normalise=(Normalise.LOG, Normalise.LIST)),),
    context=(ContextField(name="age"),),
    item_numeric=("stars",),
    window=8,
)
T0 = 1_700_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    return fetch_bundle(RegistrySettings(address=str(home)), tiny_bundle(home, SCHEMA), home / "local")


@pytest.fixture(scope="module")
def model(folder: Path) -> ServingModel:
    """One that keeps what it learns of all examples of a test."""
    return load_model(folder, Catalog(SCHEMA.item_numeric), ServingOptions())


#: What happens: an event so long after (or before) the last one, a list, a description, a learned row, and so on.
HAPPENS = st.one_of(
    st.tuples(st.just("event"), st.sampled_from([0, 1, 900, 40_000, -1, -50_000]), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("event"), st.integers(1, 5000), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("list"), st.sampled_from(["r", "s"]), st.sets(st.integers(0, 9), min_size=1), st.booleans()),
    st.tuples(st.just("erasure"), st.integers(-60_000, 0)),
    st.tuples(st.just("user"), st.integers(0, 90)),
    st.tuples(st.just("item"), st.integers(0, 9), st.sampled_from([None, T0 - 10**9, T0 + 500])),
    st.tuples(st.just("row"), st.integers(0, 9), st.integers(0, 50)),
    st.tuples(st.just("typed"), st.sampled_from([0, 900, 40_000, -1]), st.integers(0, 9)),
)


def record(happened: tuple, number: int, clock: int, name: str) -> UserInput:
    """The input of what happened."""
    match happened:
        case ("event", after, item, positive):
            action = "click" if positive else "view"
            return Interaction(
                user_id="u", item_id=f"{name}-{item}", action=action, event_id=f"e{number}", ts=clock + after,
                value=float(number) if positive else None,
            )  # fmt: skip
        case ("list", request, items, priced):
            shown = [
                Candidate(item_id=f"{name}-{item}", features={"price": float(item)} if priced else None)
                for item in items
            ]
            return CandidateList(user_id="u", request_id=request, items=shown, ts=clock)
        case ("typed", after, text):
            ts = clock + after
            return Interaction(user_id="u", action="search", event_id=f"t{number}", ts=ts, text=f"text {text}")
        case ("erasure", before):
            return Erasure(user_id="u", ts=clock + before)
        case (_, age):
            return User(user_id="u", ts=clock, attributes={"age": age})


def learned(model: ServingModel, item: int, shown: int) -> dict[str, bytes]:
    """A delta's row."""
    width, neighbours = model.tables.ids.shape[1], model.tables.neighbours.shape[1]
    counts = np.array([shown, shown / 2, shown])
    row = pack_row(np.full(width, 0.1), counts, np.full(neighbours, item), np.full(neighbours, 0.5))
    return {str(item): row}


def vector(seed: int) -> np.ndarray:
    """float16 [ENCODER_WIDTH] of some text."""
    return np.random.default_rng(seed).normal(size=ENCODER_WIDTH).astype("<f2")


def encoded(given: UserInput) -> EncodedText | None:
    """What a user typed, as the encoder of the items would have it."""
    text = typed_text(given)
    return None if text is None else EncodedText(ENCODER, quantised(vector(int(text.split()[1]))))


def same(kept: UserInputs, anew: UserInputs) -> None:
    """Every field, to the bit."""
    for field in msgspec.structs.fields(UserInputs):
        one, other = getattr(kept, field.name), getattr(anew, field.name)
        if isinstance(one, bytes):
            assert one == other
        else:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, field.name)


@given(st.lists(HAPPENS, min_size=3, max_size=40), st.integers(0, 10**12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_kept_inputs_are_those_made_anew(model: ServingModel, happens: list[tuple], run: int, both: bool) -> None:
    """Whatever happens: new events, late ones, erasures, windows that move, lists that change, items that come to be
    known, described or learned. Rankings in between, or not after each input."""
    name, clock, row, before = f"i{run}", T0, EMPTY, list[tuple[UserInputs, UserInputs]]()
    for number, happened in enumerate(happens):
        if happened[0] == "item":
            item = f"{name}-{happened[1]}"
            model.catalog.put(Item(item_id=item, numeric={"stars": 3.0}, published_at=happened[2]))
            model.catalog.put_vector(
                ItemVector(item_id=item, encoder=ENCODER, text_hash="", vector=vector(happened[1]).tobytes())
            )
        elif happened[0] == "row":
            model.put_rows(learned(model, hash_id(f"{name}-{happened[1]}"), happened[2]))
        else:
            given = record(happened, number, clock, name)
            row = apply_input(row, given, Position("inputs", 0, number, T0), SCHEMA, typed=encoded(given))
            clock = max(clock, getattr(given, "ts", clock)) + 1
        if both or number % 3 == 0:
            before += compared(model, f"u{run}", row)
    for kept, copied in before:
        same(kept, copied)  # nothing that was handed out has changed since


def compared(model: ServingModel, user: str, row: UserRow) -> list[tuple[UserInputs, UserInputs]]:
    """Each list's inputs, compared with those made anew, and copies of them."""
    views = [row.of(listed) for listed in row.current]
    found = []
    for view, (_, kept) in zip(views, model.inputs([(user, view) for view in views]), strict=True):
        listed = list_inputs(view, model.catalog, SCHEMA)
        same(kept, user_inputs(view, listed, model.tables, SCHEMA))
        arrays = {name: np.array(getattr(kept, name)) for name in kept.__struct_fields__ if name != "events"}
        found.append((kept, UserInputs(events=kept.events, **arrays)))
    return found


def test_a_list_is_prepared_anew_only_when_one_of_its_items_becomes_known(folder: Path) -> None:
    """Not at each item that a stranger describes, or that a delta brings."""
    model = load_model(folder, Catalog(SCHEMA.item_numeric), ServingOptions())
    shown = CandidateList(
        user_id="u", request_id="r", items=[Candidate(item_id="known"), Candidate(item_id="later")], ts=T0
    )
    row = apply_input(EMPTY, shown, Position("candidates", 0, 0, T0), SCHEMA)
    model.catalog.put(Item(item_id="known"))

    def indexes() -> np.ndarray:
        ((_, inputs),) = model.inputs([("u", row)])
        return inputs.candidates

    first = indexes()
    model.catalog.put(Item(item_id="another"))
    model.put_rows(learned(model, hash_id("a third"), 1))
    assert indexes() is first
    model.catalog.put(Item(item_id="later"))
    assert indexes().tolist() == [model.catalog.index_of[hash_id(name)] for name in ("known", "later")]


def test_what_is_kept_is_within_the_budget(folder: Path) -> None:
    """The user who was asked for longest ago goes; ranked again, inputs are what they were."""
    model = load_model(folder, Catalog(SCHEMA.item_numeric), ServingOptions(budget=Budget(1)))
    rows = []
    for user in range(40):
        shown = [Candidate(item_id=f"{user}-{item}") for item in range(100)]
        listed = CandidateList(user_id="u", request_id="r", items=shown, ts=T0)
        rows.append((f"u{user}", apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), SCHEMA)))
        model.inputs(rows[-1:])
    assert 1 < len(model._kept) < 40
    assert model._kept.bytes <= Budget(1).lists
    for user, row in rows:
        compared(model, user, row)


def test_a_model_that_nobody_holds_any_more_is_gone_at_once(folder: Path) -> None:
    """With all that was kept of users: a worker collects cycles every few hours, and versions come every few s."""
    catalog = Catalog(SCHEMA.item_numeric)
    model = load_model(folder, catalog, ServingOptions())
    row = EMPTY
    items = [Candidate(item_id=f"item-{number}") for number in range(4)]
    for offset, record in enumerate(
        (
            CandidateList(request_id="r", user_id="u", items=items, ts=T0),
            Interaction(user_id="u", item_id="item-1", action="click", event_id="e", ts=T0),
        )
    ):
        topic = "candidates" if isinstance(record, CandidateList) else "interactions"
        row = apply_input(row, record, Position(topic, 0, offset, T0), SCHEMA)
        model.rank([("u", row)])
    following = load_model(folder, catalog, ServingOptions(), like=model)
    held = [weakref.ref(model), weakref.ref(model.tables), weakref.ref(model.scorer)]
    gc.collect()
    gc.disable()
    try:
        model.close()
        del model
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()
    assert following.rank([("u", row)])
