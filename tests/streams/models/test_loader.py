"""Loading beside what serves: users are warm when a version is there, and what leaves is freed bit by bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from liverank.settings import Settings, changed
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
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
    assert (after.item_ids, after.scores, after.probabilities) == (before.item_ids, before.scores, before.probabilities)


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
