"""What a user typed moves the list: the same in torch and ONNX, in a batch and alone; and nothing in earlier models."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_learning.releases.origins import read_origin
from online_learning.releases.snapshot import Snapshot
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, ItemVector
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings
from ranker.serving.explaining import explain
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.starter.bundle import STARTER_ENCODER, publish_starter
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import EncodedText, quantised
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_bundle

SCHEMA = FeatureSchema(window=8)
T0 = 1_700_000_000_000
ITEMS = [f"item-{number}" for number in range(12)]
EARLIER = next((Path(__file__).parents[2] / "fixtures" / "format_1" / "models" / "default").iterdir())


def described(encoder: str, width: int) -> Catalog:
    """Items with texts at random."""
    rng, catalog = np.random.default_rng(1), Catalog()
    for item in ITEMS:
        catalog.put(Item(item_id=item))
        vector = rng.normal(size=width).astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=encoder, text_hash="", vector=vector))
    return catalog


def row_of(
    catalog: Catalog, encoder: str, *wanted: int, clicks: int = 3, schema: FeatureSchema = SCHEMA, name: str = "u"
) -> UserRow:
    """Somebody who typed, one after the other, what is exactly the text of some items."""
    row = EMPTY
    for at in range(clicks):
        event = Interaction(user_id=name, item_id=ITEMS[at], action="view", event_id=f"{name}{at}", ts=T0 + at)
        row = apply_input(row, event, Position("views", 0, at, T0), schema)
    listed = CandidateList(request_id="r", user_id=name, ts=T0, items=[Candidate(item_id=item) for item in ITEMS])
    row = apply_input(row, listed, Position("candidates", 0, 0, T0), schema)
    for offset, at in enumerate(wanted):
        (vector,) = catalog.text_vectors(encoder, np.array([1 + at]))
        typed = Interaction(user_id=name, action="search", event_id=f"t{offset}", ts=T0 + 10 + offset, text="words")
        place, text = Position("interactions", 0, offset, T0), EncodedText(encoder, quantised(vector))
        row = apply_input(row, typed, place, schema, typed=text)
    return row


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    return fetch_bundle(RegistrySettings(address=str(home)), tiny_bundle(home, SCHEMA), home / "local")


@pytest.fixture(scope="module")
def model(folder: Path) -> ServingModel:
    return load_model(folder, described(ENCODER, ENCODER_WIDTH), ServingOptions())


def logits(model: ServingModel, rows: list[tuple[str, UserRow]]) -> list[np.ndarray]:
    return model.scorer.score(model.inputs(rows))


def test_torch_gives_what_the_graph_gives(folder: Path, model: ServingModel) -> None:
    """On lists of people who typed nothing, one text, and several, padded together: to 1e-4."""
    origin = read_origin(folder)
    snapshot = Snapshot(
        origin.version, origin.config, origin.weights, origin.tables, model.catalog, ENCODER, origin.schema
    )
    rows = [(f"u{count}", row_of(model.catalog, ENCODER, *range(count), name=f"u{count}")) for count in (0, 1, 3)]
    inputs = model.inputs(rows)
    for served, learned in zip(model.scorer.score(inputs), snapshot.scores([one for _, one in inputs]), strict=True):
        np.testing.assert_allclose(served, learned, rtol=1e-4, atol=1e-4)


def test_words_come_turn_by_turn_as_they_would_at_once(model: ServingModel) -> None:
    """The kept encoding of somebody who types between clicks is that of one made anew, and so are the scores."""
    row = row_of(model.catalog, ENCODER, clicks=2)
    for step in range(6):
        ts, offset = T0 + 100 + step, 10 + step
        if step % 2:
            event = Interaction(user_id="u", item_id=ITEMS[step], action="click", event_id=f"s{step}", ts=ts)
            row = apply_input(row, event, Position("clicks", 0, offset, ts), SCHEMA)
        else:
            (vector,) = model.catalog.text_vectors(ENCODER, np.array([1 + step]))
            event = Interaction(user_id="u", action="search", event_id=f"s{step}", ts=ts, text="words")
            text = EncodedText(ENCODER, quantised(vector))
            row = apply_input(row, event, Position("interactions", 0, offset, ts), SCHEMA, typed=text)
        (kept,) = logits(model, [("kept", row)])
        model.forget("anew")
        (anew,) = logits(model, [("anew", row)])
        np.testing.assert_allclose(kept, anew, rtol=1e-4, atol=1e-4)


def test_who_typed_nothing_is_ranked_the_same_beside_who_did(model: ServingModel) -> None:
    """Padding says nothing, and a row without words is ranked as it was before there were any."""
    silent, typed = row_of(model.catalog, ENCODER), row_of(model.catalog, ENCODER, 5, 7)
    (alone,) = logits(model, [("silent", silent)])
    beside, moved = logits(model, [("silent", silent), ("typed", typed)])
    np.testing.assert_allclose(beside, alone, rtol=1e-4, atol=1e-4)
    assert np.abs(moved - alone).max() > 0.1


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    """The model out of the package, which has learned of no word."""
    home = tmp_path_factory.mktemp("starter")
    folder = fetch_bundle(RegistrySettings(address=str(home)), publish_starter(SCHEMA, str(home)), home / "local")
    return load_model(folder, described(STARTER_ENCODER, 384), ServingOptions())


@pytest.mark.parametrize("clicks", [0, 3])
def test_words_work_before_anything_was_learned(starter: ServingModel, clicks: int) -> None:
    """What is like the words comes first, from the last place; and a second turn brings another item up, while the
    first is not forgotten."""
    catalog = starter.catalog
    ranked = starter.rank([("a", row_of(catalog, STARTER_ENCODER, 11, clicks=clicks))])[0].item_ids
    assert ranked[0] == ITEMS[11]
    second = starter.rank([("b", row_of(catalog, STARTER_ENCODER, 11, 9, clicks=clicks))])[0].item_ids
    assert second[:2] == [ITEMS[9], ITEMS[11]]


def test_what_was_typed_is_a_reason(starter: ServingModel) -> None:
    """An explanation names each text by its action and time, and says what it did: without it the item stands lower."""
    row = row_of(starter.catalog, STARTER_ENCODER, 11, 9)
    (found,) = explain(starter, "u", row, [ITEMS[11]])
    first, second = sorted((one for one in found.reasons if one.kind == "words"), key=lambda one: one.ts or 0)
    assert (first.name, first.ts, second.ts) == ("search", T0 + 10, T0 + 11)
    assert first.effect > 0 > second.effect
    assert (first.rank_without or 0) > (found.rank or 0)


def test_words_of_long_ago_no_longer_count(starter: ServingModel) -> None:
    """A day later the list is as it came."""
    typed = row_of(starter.catalog, STARTER_ENCODER, 11, clicks=0)
    old = msgspec.structs.replace(typed, words=(msgspec.structs.replace(typed.words[0], ts=T0 - 86_400_000),))
    nothing = msgspec.structs.replace(typed, words=())
    ranked, without = (starter.rank([(name, row)])[0].item_ids for name, row in (("old", old), ("none", nothing)))
    assert ranked == without


def test_a_bundle_of_before_words_ranks_as_if_there_were_none() -> None:
    """Its graphs have no such input: it is served, and what is typed says nothing to it."""
    catalog = Catalog()
    model = load_model(EARLIER, catalog, ServingOptions())
    width = len(model.tables.arrays.reduction)
    for item in ITEMS:
        vector = np.random.default_rng(len(item)).normal(size=width).astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=model.encoder, text_hash="", vector=vector))
    listed = CandidateList(request_id="r", user_id="u", ts=T0, items=[Candidate(item_id=item) for item in ITEMS])
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), model.schema)
    typed = Interaction(user_id="u", action="search", event_id="t", ts=T0, text="words")
    text = EncodedText(model.encoder, quantised(np.ones(width)))
    after = apply_input(row, typed, Position("interactions", 0, 0, T0), model.schema, typed=text)
    assert model.inputs([("u", after)])[0][1].words.any()
    before, with_words = (model.rank([(name, one)])[0] for name, one in (("a", row), ("b", after)))
    assert before.item_ids == with_words.item_ids
    np.testing.assert_allclose(before.scores, with_words.scores, atol=1e-6)
