"""A first training, from a log to a bundle that serves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_learning.data import DATASETS
from online_learning.evaluation.list_peers import list_peers
from online_learning.evaluation.lists import judge, queries, served, summarise_ranks
from online_learning.first_model.fit import FirstModel, fit
from online_learning.first_model.log_examples import gather
from online_learning.learning.learner import Learner, empty_arrays, model_config
from online_learning.recipe import Recipe
from ranker.contracts.errors import LiverankError
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.registry.bundle import fetch_bundle, read_manifest
from ranker.registry.settings import RegistrySettings
from ranker.serving.model import load_model
from ranker.serving.options import ServingOptions
from tests.support.synthetic import START, write_log

DATA = DATASETS["trivago"]
NOON = (START + 43_200) * 1000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log.parquet", users=150)


@pytest.fixture(scope="module")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FirstModel]:
    registry = tmp_path_factory.mktemp("registry")
    recipe = msgspec.structs.replace(DATA.recipe, epochs=6)
    return registry, fit(DATA, log, str(registry), until=NOON, recipe=recipe)


def test_a_first_model_ranks_what_it_has_not_seen(log: Path, trained: tuple[Path, FirstModel], tmp_path: Path) -> None:
    """Trained on the morning, served from its bundle, it beats the shown order in the afternoon by far."""
    registry, made = trained
    folder = fetch_bundle(RegistrySettings(address=str(registry)), made.version, tmp_path)
    model = load_model(folder, Catalog(), ServingOptions())
    judged = judge(served(queries(DATA.records(log), DATA.schema, NOON), model), list_peers(DATA.schema))
    assert len(judged.times) > 50
    figures = {name: summarise_ranks(ranks, judged.users)["mrr"] for name, ranks in judged.ranks.items()}
    assert figures["liverank"]["low"] > figures["shown"]["high"]


def test_nothing_from_after_the_end_is_learned(log: Path, trained: tuple[Path, FirstModel]) -> None:
    """`until` keeps what is later out of the examples and out of the manifest's newest time."""
    registry, made = trained
    manifest = read_manifest(registry / "default" / made.version)
    assert manifest.learned_until < NOON
    everything = [query for _, query in queries(DATA.records(log), DATA.schema) if query is not None]
    before = [query for _, query in queries(DATA.records(log), DATA.schema, None, NOON) if query is not None]
    assert made.examples == len(before) < len(everything)


def test_torch_and_the_served_bundle_give_the_same_scores(log: Path, tmp_path: Path) -> None:
    """The learner's scores of an example equal those of the bundle exported from it, item tables included."""
    from online_learning.releases.writing import Provenance, publish_model

    config = model_config(DATA.schema, d=16, hidden=16, relation_dim=8, text_dim=8)
    tables = ItemTables(empty_arrays(config, 8, 4), Catalog(), "none")
    examples, _ = gather(iter(list(DATA.records(log))[:600]), tables, DATA.schema, lambda _: None)
    learner = Learner(config, tables, Recipe(epochs=1))
    for start in range(0, len(examples), 16):
        learner.learn(examples.batch(range(start, min(start + 16, len(examples)))))
    about = Provenance(model="m", schema=DATA.schema, encoder="none", created=0, version="v")
    publish_model(learner.model, learner.table_arrays(), about, str(tmp_path))
    served = load_model(tmp_path / "m" / "v", Catalog(), ServingOptions())
    asked = next(query for _, query in queries(DATA.records(log), DATA.schema) if query and query.row.count > 3)
    ranked = served.rank([("u", asked.row)])[0]
    from ranker.features.list import list_inputs
    from ranker.features.user import user_inputs

    inputs = user_inputs(asked.row, list_inputs(asked.row, learner.catalog, DATA.schema), learner.tables, DATA.schema)
    logits = learner.scores([inputs])[0][:, 0]
    chances = dict(zip(asked.row.candidates.item_ids, 1 / (1 + np.exp(-logits)), strict=True))
    np.testing.assert_allclose(ranked.scores, [chances[item] for item in ranked.item_ids], atol=1e-4)


def test_a_log_without_choices_is_a_clear_error(tmp_path: Path) -> None:
    """There is nothing to learn from a log before its first click, and the error says so."""
    path = write_log(tmp_path / "log.parquet", users=2)
    with pytest.raises(LiverankError, match="no list that drew a positive action"):
        fit(DATA, path, str(tmp_path / "registry"), until=START * 1000)
