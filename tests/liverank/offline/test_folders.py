"""A folder through training and evaluation, and what becomes of one that cannot be learned from."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.offline.evaluate import Question, newest_fifth, run_evaluation
from liverank.offline.rank import bundle_encoder
from liverank.settings import Settings, changed
from online_learning.first_model.fit import FirstModel, fit
from online_learning.folder.log import open_folder
from online_learning.learning.learner import CATEGORY_BUCKETS
from online_learning.releases.origins import read_origin
from ranker.contracts.errors import LiverankError
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Item
from ranker.items.catalog import Catalog
from ranker.items.tables import category_buckets
from ranker.registry.bundle import read_manifest
from tests.support.command import run_command
from tests.support.folders import START, folder_of, shop

HEAD = "user_id,item_id,action,ts\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FirstModel]:
    registry = tmp_path_factory.mktemp("registry")
    return registry, fit(open_folder(log), log, str(registry))


def test_schema_recipe_and_sizes_are_the_folders(log: Path, trained: tuple[Path, FirstModel]) -> None:
    """They are in the manifest, and a trainer that starts from the bundle goes on with that recipe."""
    registry, made = trained
    data, folder = open_folder(log), registry / "default" / made.version
    manifest = read_manifest(folder)
    assert manifest.schema == data.schema
    assert (manifest.config["d"], manifest.config["hidden"], manifest.recipe["epochs"]) == (16, 16, 2)
    assert read_origin(folder).recipe == data.recipe
    assert read_origin(folder).recipe.batch == 16


def test_the_newest_fifth_is_ranked_by_what_came_before(log: Path, tmp_path: Path) -> None:
    """Without times: a fifth of the choices is the test, training ends where it begins, and all figures are numbers."""
    data = open_folder(log)
    question = newest_fifth(data, log, Question(), train=True)
    assert question.start == question.train_until is not None
    found = run_evaluation(data, log, changed(Settings(), registry=str(tmp_path)), question, lambda _: None)
    assert found["n"] == 30
    figures = [value for ranker in found["rankers"].values() for metric in ranker.values() for value in metric.values()]
    assert figures and all(math.isfinite(value) for value in figures)


def test_texts_are_encoded_as_in_serving(log: Path, trained: tuple[Path, FirstModel], tmp_path: Path) -> None:
    """`evaluate` and `rank` fetch the bundle's encoder from the registry, and each text gets its vector."""
    from online_learning.first_model.item_texts import described_log

    registry, made = trained
    settings = changed(Settings(), registry=str(registry), data=str(tmp_path))
    encoder = bundle_encoder(registry / "default" / made.version, settings)
    assert encoder is not None
    catalog = Catalog()
    items = [record for record in open_folder(log).records(log) if isinstance(record, Item)]
    assert list(described_log(items, catalog, encoder, lambda _: None)) == items
    index = np.array([catalog.index_of[hash_id(items[3].item_id)]])
    (vector,) = catalog.text_vectors(encoder.name, index)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-2)


def test_an_evaluation_without_a_choice_is_refused(log: Path, trained: tuple[Path, FirstModel], tmp_path: Path) -> None:
    """A time in which nothing was chosen gives an error, not a mean over nothing."""
    settings = changed(Settings(), registry=str(trained[0]), data=str(tmp_path))
    question = Question(start=START + 10**12)
    with pytest.raises(LiverankError, match="nothing positive was chosen from a list in that time"):
        run_evaluation(open_folder(log), log, settings, question, lambda _: None)


def test_a_version_of_another_schema_says_so(trained: tuple[Path, FirstModel], tmp_path: Path) -> None:
    """An action that it does not know ends the evaluation with its name; what it means otherwise stands in a note."""
    settings = changed(Settings(), registry=str(trained[0]), data=str(tmp_path))
    folder = shop(tmp_path / "shop")
    config = (folder / "liverank.toml").read_text()
    (folder / "liverank.toml").write_text(config.replace('"click" }', '"click", positive = true }'))
    found = run_evaluation(open_folder(folder), folder, settings, Question(), lambda _: None)
    (note,) = [note for note in found["notes"] if "[schema]" in note]
    assert f"of {trained[1].version} counts" in note and "positive of the action 'click' is true instead of" in note
    (folder / "liverank.toml").write_text(config.replace('"purchase"', '"gift"'))
    with pytest.raises(
        LiverankError, match=f"{trained[1].version} is of another .schema. than shop: the action 'gift'"
    ):
        run_evaluation(open_folder(folder), folder, settings, Question(), lambda _: None)


def test_a_test_that_begins_at_a_time_is_of_a_model_trained_until_then(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a registry, as without a time; and no training on a time in which nothing was chosen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIVERANK_REGISTRY", raising=False)
    data = open_folder(log)
    start = newest_fifth(data, log, Question(), train=True).start
    assert start is not None
    when = datetime.fromtimestamp(start / 1000, UTC).isoformat()
    ran = run_command("evaluate", log, "--test-from", when, "--json", tmp_path / "report.json")
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["n"] == 30 and not [note for note in found["notes"] if "has learned" in note]
    with pytest.raises(LiverankError, match="no list that drew a positive action in the time that is to be learned"):
        fit(data, log, str(tmp_path / "registry"), until=START - 1)


def test_sampled_lists_are_not_evaluated(tmp_path: Path) -> None:
    """A log that recalls no lists has none to rank, and the error says how it gets them."""
    lines = "".join(f"u{at % 3},i{at % 5},click,{START + at * 1000}\n" for at in range(50))
    folder_of(tmp_path, {"interactions.csv": HEAD + lines, "liverank.toml": "[data]\nrecall = 0\n"})
    with pytest.raises(LiverankError, match="set recall = 100"):
        run_evaluation(open_folder(tmp_path), tmp_path, Settings(), Question(), lambda _: None)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([f"u{at % 4},i{at % 5},view,{START + at * 1000}" for at in range(40)], "holds no positive action"),
        ([f"u{at},i{at % 5},click,{START}" for at in range(40)], "all was chosen at one time"),
    ],
)
def test_what_cannot_be_evaluated_says_why(tmp_path: Path, lines: list[str], says: str) -> None:
    """No positive action, or one time for everything: nothing can be tested on what is later."""
    folder_of(tmp_path, {"interactions.csv": HEAD + "\n".join(lines) + "\n"})
    with pytest.raises(LiverankError, match=says):
        newest_fifth(open_folder(tmp_path), tmp_path, Question(), train=True)


def test_what_cannot_be_learned_from_leaves_the_registry_empty(tmp_path: Path) -> None:
    """Neither a bundle nor an encoder stays of a training that has nothing to learn from."""
    lines = "".join(f"u{at % 4},i{at % 5},view,{START + at * 1000}\n" for at in range(40))
    log = folder_of(tmp_path / "log", {"interactions.csv": HEAD + lines})
    ran = CliRunner().invoke(app, ["train", str(log), "--out", str(tmp_path / "registry")])
    assert isinstance(ran.exception, LiverankError)
    assert "no list that drew a positive action" in str(ran.exception)
    assert not (tmp_path / "registry").exists()


ODD = {
    "one user": [f"u,i{at % 5},{('view', 'click')[at % 2]},{START + at * 1000}" for at in range(60)],
    "other scripts and spaces": [
        f"Zoë {at % 3},物 品 {at % 5},click,{START + at * 1000}" for at in range(60)
    ],
    "a clock that jumps": [
        f"u{at % 4},i{at % 5},click,{START + at * 1000 + (10**12 if at % 9 == 0 else 0)}" for at in range(60)
    ],
    "all at one time": [f"u{at % 4},i{at % 5},click,{START}" for at in range(60)],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_logs_are_learned_from(tmp_path: Path, kind: str) -> None:
    """One user, ids of any script with spaces, a clock that jumps, one time for all: a whole bundle comes of each."""
    config = "[data]\nrecall = 10\n[recipe]\nepochs = 1\n[model]\nd = 16\nhidden = 16\n"
    log = folder_of(tmp_path / "log", {"interactions.csv": HEAD + "\n".join(ODD[kind]) + "\n", "liverank.toml": config})
    data = open_folder(log)
    made = fit(data, log, str(tmp_path / "registry"))
    assert made.examples > 20 and math.isfinite(made.loss)


@pytest.mark.parametrize("recall", [10, 0])
def test_events_that_name_lists_of_no_file_are_learned_from(tmp_path: Path, recall: int) -> None:
    """A log of events alone may have the ids of searches: recalled and sampled lists are chosen from all the same."""
    lines = "".join(f"u{at % 4},i{at % 7},click,{START + at * 1000},search {at}\n" for at in range(90))
    config = f"[data]\nrecall = {recall}\n[recipe]\nepochs = 1\n[model]\nd = 16\nhidden = 16\n"
    files = {"interactions.csv": f"user_id,item_id,action,ts,request_id\n{lines}", "liverank.toml": config}
    log = folder_of(tmp_path / "log", files)
    assert fit(open_folder(log), log, str(tmp_path / "registry")).examples > 20


def test_a_list_that_names_an_item_twice_is_learned_from(tmp_path: Path) -> None:
    """The first mention stays, in examples as in serving."""
    lines = "".join(f"u{at % 4},i{at % 5},click,{START + at * 1000 + 1}\n" for at in range(40))
    lists = "user_id,ts,items\n" + "".join(
        f'u{at % 4},{START + at * 1000},"[""x"",""i{at % 5}"",""x"",""i{at % 5}""]"\n' for at in range(40)
    )
    config = "[recipe]\nepochs = 1\n[model]\nd = 16\nhidden = 16\n"
    files = {"interactions.csv": HEAD + lines, "candidates.csv": lists, "liverank.toml": config}
    log = folder_of(tmp_path / "log", files)
    assert fit(open_folder(log), log, str(tmp_path / "registry")).examples == 40


def test_a_million_categories_cost_nothing() -> None:
    """Categories are hashed into buckets: a catalogue of ever new ones makes no table grow."""
    catalog = Catalog()
    for number in range(100_000):
        catalog.put(Item(item_id=f"i{number}", category=f"category {number}"))
    buckets = category_buckets(catalog.categories[: catalog.count], CATEGORY_BUCKETS)
    assert buckets.max() < CATEGORY_BUCKETS
