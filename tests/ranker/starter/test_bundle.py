"""The starter: an ordinary bundle for any schema, the same from all, that keeps an order while nothing is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from online_learning.evaluation.progressive import Window
from online_learning.online_recipe import OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.origins import read_origin
from online_learning.trainer.trainer import Trainer
from ranker.contracts.bundle_files import GOLDEN
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, ItemVector
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.contracts.topics import CANDIDATES, INTERACTIONS
from ranker.items.catalog import Catalog
from ranker.network.export import EXTEND_INPUTS, SCORE_INPUTS, ExtendGraph, ScoreGraph
from ranker.network.transformer import Ranker
from ranker.registry.bundle import new_version, registry_versions
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.starter.bundle import STARTER_ENCODER, publish_starter, starter_version
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from tests.support import stream

RICH = FeatureSchema(
    actions=(
        Action(name="view"),
        Action(name="click", positive=True),
        Action(name="buy", positive=True, weight=4.0),
    ),
    candidate_features=(
        CandidateFeature(name="price", normalise=(Normalise.LOG, Normalise.LIST_RANK, Normalise.LIST_FLOOR)),
        CandidateFeature(name="score"),
    ),
    context=(ContextField(name="device", values=("mobile", "desktop")), ContextField(name="hour")),
    item_numeric=("stars", "reviews"),
    window=16,
)
SCHEMAS = {"default": FeatureSchema(), "rich": RICH}
NOW = 1_700_000_000_000


def folder_of(registry: Path, schema: FeatureSchema) -> Path:
    """The starter's folder, published if it is not."""
    return registry / "default" / publish_starter(schema, str(registry))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each schema's starter."""
    root = tmp_path_factory.mktemp("starters")
    return {name: folder_of(root / name, schema) for name, schema in SCHEMAS.items()}


def opened(folder: Path, schema: FeatureSchema, catalog: Catalog | None = None) -> ServingModel:
    """The bundle, loaded as a worker does: hashes, features and golden outputs are checked."""
    return load_model(folder, catalog or Catalog(schema.item_numeric), ServingOptions(provider="cpu"))


def listed(items: list[str], schema: FeatureSchema, **more: object) -> UserRow:
    """The row of somebody who has done nothing, with this list."""
    record = CandidateList(user_id="u", request_id="r", items=[Candidate(item_id=one) for one in items], ts=NOW, **more)
    return apply_input(EMPTY, record, Position(CANDIDATES, 0, 0, NOW), schema)


def with_events(row: UserRow, schema: FeatureSchema, *done: tuple[str, str]) -> UserRow:
    """The row after (action, item) a second each."""
    for at, (action, item) in enumerate(done):
        ts = NOW + 1000 * at
        event = Interaction(user_id="u", item_id=item, action=action, ts=ts, event_id=f"e{at}")
        row = apply_input(row, event, Position(INTERACTIONS, 0, at, ts), schema)
    return row


def order(model: ServingModel, row: UserRow) -> list[str]:
    """The ranked list."""
    return model.rank([("u", row)])[0].item_ids


@pytest.mark.parametrize("name", SCHEMAS)
def test_torch_gives_the_golden_outputs(name: str, published: dict[str, Path]) -> None:
    """What the trainer reads out of the graphs is the model that they are, to 1e-4 on the golden inputs."""
    origin = read_origin(published[name])
    model = Ranker(origin.config).eval()
    model.load_state_dict(dict(origin.weights))
    golden = dict(np.load(published[name] / GOLDEN, allow_pickle=False))
    for graph, module, inputs in (
        ("extend", ExtendGraph(model), EXTEND_INPUTS),
        ("score", ScoreGraph(model), SCORE_INPUTS),
    ):
        with torch.no_grad():
            found = module(*(torch.from_numpy(golden[f"{graph}/in/{one}"]) for one in inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        expected = [golden[key] for key in golden if key.startswith(f"{graph}/out/")]
        assert len(outputs) == len(expected)
        for value, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-4, atol=1e-4)
            assert np.abs(wanted).max() > 0.01


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_unknown_list_keeps_its_order(name: str, published: dict[str, Path]) -> None:
    """To the end of the longest list, whatever is known of its items, the moment and the features declared."""
    schema, catalog = SCHEMAS[name], Catalog(SCHEMAS[name].item_numeric)
    rng = np.random.default_rng(0)
    items = [f"item-{at}" for at in rng.permutation(1000)]
    for item in items[:500]:
        numbers = {one: float(rng.normal() * 1000) for one in schema.item_numeric}
        catalog.put(Item(item_id=item, category=f"c{rng.integers(5)}", numeric=numbers, published_at=NOW - 1000))
        vector = rng.normal(size=384).astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=STARTER_ENCODER, text_hash="0" * 16, vector=vector))
    model = opened(published[name], schema, catalog)
    for size in (1, 2, 7, 40, 1000):
        given = [
            Candidate(item_id=item, features={"price": float(rng.exponential() * 100), "score": float(rng.normal())})
            for item in items[:size]
        ]
        record = CandidateList(
            user_id="u", request_id="r", items=given, ts=NOW, context={"device": "mobile", "hour": 3}
        )
        row = apply_input(EMPTY, record, Position(CANDIDATES, 0, 0, NOW), schema)
        assert order(model, row) == items[:size]


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_was_touched_elsewhere_and_is_related_to_nothing_changes_nothing(
    name: str, published: dict[str, Path]
) -> None:
    """Items of which nothing is known, touched in another list, tell nothing of this one."""
    schema = SCHEMAS[name]
    model = opened(published[name], schema)
    items = [f"item-{at}" for at in range(30)]
    row = with_events(listed(items, schema), schema, *(("view", f"other-{at}") for at in range(12)))
    assert order(model, row) == items


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_like_the_touched_rises(name: str, published: dict[str, Path]) -> None:
    """Of two items shown last, the one of the category and with the text that somebody clicked thrice comes first."""
    schema, catalog = SCHEMAS[name], Catalog(SCHEMAS[name].item_numeric)
    rng = np.random.default_rng(1)
    liked, other = rng.normal(size=(2, 384))

    def describe(item: str, category: str, vector: np.ndarray) -> None:
        catalog.put(Item(item_id=item, category=category))
        packed = (vector / np.linalg.norm(vector)).astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=STARTER_ENCODER, text_hash="0" * 16, vector=packed))

    for at in range(3):
        describe(f"touched-{at}", "liked", liked + 0.3 * rng.normal(size=384))
    describe("like", "liked", liked)
    describe("unlike", "other", other)
    model = opened(published[name], schema, catalog)
    row = listed([*(f"item-{at}" for at in range(10)), "unlike", "like"], schema)
    found = order(model, with_events(row, schema, *(("click", f"touched-{at}") for at in range(3))))
    assert found.index("like") < found.index("unlike")
    assert found.index("like") < 11


def test_the_same_schema_gives_the_same_version_and_bytes(tmp_path: Path) -> None:
    """Also from another process; another schema gives another version, and both come before any that is trained."""
    ours = folder_of(tmp_path / "ours", RICH)
    code = (
        "import sys, msgspec\n"
        "from ranker.contracts.schema import FeatureSchema\n"
        "from ranker.starter.bundle import publish_starter\n"
        "schema = msgspec.json.decode(sys.argv[1], type=FeatureSchema)\n"
        "print(publish_starter(schema, sys.argv[2]))\n"
    )
    given = [sys.executable, "-c", code, msgspec.json.encode(RICH).decode(), str(tmp_path / "theirs")]
    done = subprocess.run(given, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ours.name
    for file in sorted(ours.iterdir()):
        assert file.read_bytes() == (tmp_path / "theirs" / "default" / ours.name / file.name).read_bytes(), file.name
    assert starter_version(FeatureSchema()) != starter_version(RICH) < new_version(NOW)


def test_whoever_comes_second_takes_it(tmp_path: Path) -> None:
    """A registry holds one starter, and nothing half written, however many make it."""
    assert len({publish_starter(RICH, str(tmp_path)) for _ in range(3)}) == 1
    assert registry_versions(str(tmp_path), "default") == [starter_version(RICH)]
    assert [path.name for path in (tmp_path / "default").iterdir()] == [starter_version(RICH)]


def test_a_trainer_learns_on_from_it(tmp_path: Path) -> None:
    """On a stream of lists by a hidden worth it comes to rank far better than the starter that it began with."""
    origin = read_origin(folder_of(tmp_path, stream.SCHEMA))
    online = OnlineRecipe(batch=32, window=100, id_dropout=0.0)
    torch.manual_seed(0)
    trainer = Trainer(origin, Catalog(), online, Recipe(id_dropout=0.0))
    windows: list[Window] = []
    made = stream.examples(400)
    for start in range(0, len(made), 32):
        windows += trainer.learn(made[start : start + 32], NOW + start).windows
    found = windows[-1].rankers
    assert found["trainer"].mrr > found["first"].mrr + 0.1
