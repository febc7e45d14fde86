"""Loading beside what serves: users are warm when a version is there, and what leaves is freed bit by bit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from liverank.settings import Settings, changed
from ranker.contracts.bundle_files import GRAPHS, TABLES
from ranker.contracts.errors import BundleError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import TableArrays
from ranker.registry.bundle import publish_bundle, read_manifest
from ranker.registry.signatures import new_key_pair
from ranker.serving.model import ServingModel
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from streams.models import loader
from streams.models.loader import fetch_copy, load_version, take_apart
from streams.settings import WorkerSettings
from tests.support.tiny import tiny_bundle

USERS = [f"user-{number}" for number in range(300)]


def row(user: str) -> UserRow:
    """A list, and an event."""
    items = [Candidate(item_id=f"item-{number}") for number in range(5)]
    listed = CandidateList(user_id=user, request_id="r", items=items, ts=1)
    event = Interaction(user_id=user, item_id="item-1", action="view", event_id="e", ts=2)
    after = apply_input(EMPTY, listed, Position("candidates", 0, 0, 1), FeatureSchema())
    return apply_input(after, event, Position("views", 0, 0, 2), FeatureSchema())


@pytest.fixture
def model(tmp_path: Path) -> ServingModel:
    """A version that was loaded for these users."""
    version = tiny_bundle(tmp_path / "registry")
    settings = changed(Settings(), registry=str(tmp_path / "registry"), data=tmp_path / "data").worker
    folder = fetch_copy(settings, version, None)
    return load_version(settings, folder, Catalog(), None, [(user, row(user)) for user in USERS])


def spoiled(tables: TableArrays) -> TableArrays:
    """A learned row is not finite."""
    return msgspec.structs.replace(tables, ids=np.full_like(tables.ids, np.nan))


def widened(tables: TableArrays) -> TableArrays:
    """Arrays that do not belong together."""
    return msgspec.structs.replace(tables, text=np.zeros((7, 3), np.float32))


def boundless(tables: TableArrays) -> TableArrays:
    """No bytes, and columns for which every item would need a terabyte."""
    return msgspec.structs.replace(
        tables, reduction=np.zeros((0, 1 << 38), np.float32), reduction_mean=np.zeros(0, np.float32),
        text=np.zeros((1 << 38, 0), np.float32), categories=np.zeros((1, 0), np.float32),
        ids=np.zeros((len(tables.ids), 0), np.float32),
    )  # fmt: skip


def other_graph(folder: Path) -> None:
    """A graph that does something else."""
    shutil.copyfile(folder / GRAPHS["extend"], folder / GRAPHS["score"])


def reaching_out(folder: Path) -> None:
    """A graph whose weights are a file that lies elsewhere on this machine."""
    (folder.parent / "private").write_bytes(bytes(16))
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../private")
    shown = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["logits"])], "g", [], [shown], [weights])
    (folder / GRAPHS["score"]).write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (reaching_out, "broken"),
        (spoiled, "not-finite"),
        (widened, "broken"),
        (boundless, "broken"),
        (other_graph, "broken"),
        (None, "unsigned"),
    ],
)
def test_a_first_bundle_that_nobody_announced_is_checked_as_strictly(
    tmp_path: Path, harm: Callable[..., TableArrays | None] | None, reason: str
) -> None:
    """As the newest of the registry: hashes that fit what is wrong with it do not help it."""
    version = tiny_bundle(tmp_path / "made")
    folder = tmp_path / "made" / "default" / version
    if harm in (other_graph, reaching_out):
        harm(folder)
    elif harm is not None:
        tables = harm(TableArrays.load(folder / TABLES))
        assert tables is not None
        tables.save(folder / TABLES)
    publish_bundle(folder, read_manifest(folder), str(tmp_path / "registry"))
    signed = {"require_signatures": True, "public_keys": f"someone={new_key_pair()[1]}"} if harm is None else {}
    settings = changed(Settings(), registry=str(tmp_path / "registry"), data=tmp_path / "data", **signed).worker
    with pytest.raises(BundleError) as error:
        load_version(settings, fetch_copy(settings, version, None), Catalog(), None, [])
    assert error.value.reason == reason


def test_users_are_warm_when_a_version_is_there(model: ServingModel) -> None:
    """Nobody's history is encoded again for their first ranking."""
    rebuilt = model.scorer.rebuilt
    for user in USERS:
        model.rank([(user, row(user))])
    assert model.scorer.rebuilt == rebuilt


def test_what_leaves_is_freed_of_all_users_and_can_still_rank(model: ServingModel) -> None:
    """A batch that began before the swap may come to it later, and gets the ranking that it would have got."""
    (before,) = model.rank([("user-1", row("user-1"))])
    take_apart(model)
    assert not model.scorer.cache
    assert not model.forget_some(1)
    (after,) = model.rank([("user-1", row("user-1"))])
    assert after.item_ids == before.item_ids
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.probabilities, before.probabilities)


def test_threads_hand_over_sooner_only_while_a_version_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The interpreter's own interval is back after a load, also after one that fails."""
    seen, before = [], sys.getswitchinterval()

    def failing(*given: object) -> ServingModel:
        seen.append(sys.getswitchinterval())
        raise ValueError("no")

    monkeypatch.setattr(loader, "load_model", failing)
    with pytest.raises(ValueError, match="no"):
        load_version(WorkerSettings(), tmp_path, Catalog(), None, [])
    assert seen[0] < before
    assert sys.getswitchinterval() == before
