"""Versions that served earlier: what is worse than one of them goes back, and which version is one when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from online_learning.releases.anchors import LEAST_COMPARED, SPANS
from online_learning.releases.origins import fetch_origin
from online_learning.trainer.releases import Releases
from online_learning.trainer.state import capture
from online_learning.trainer.trainer import Trainer
from ranker.contracts.records import ModelUpdate
from ranker.registry.bundle import registry_versions
from tests.support import stream
from tests.support.releasing import Installation

torch.set_num_threads(1)


def rank(trainer: Trainer, count: int, *, ours: int, theirs: int, anchor: int, every_ms: int = 1000) -> None:
    """So many people chose what stands at these ranks: by the trainer's weights, by what serves, by each anchor."""
    anchors = trainer.versions.anchors
    for number in range(count):
        anchors.compare(stream.START + number * every_ms, number, ours, theirs, dict.fromkeys(anchors.versions, anchor))


def same_model(here: Installation, version: str, other: str) -> None:
    """Two bundles hold the same."""
    one, two = (fetch_origin(here.settings.trainer, name) for name in (version, other))
    for name, value in one.weights.items():
        assert torch.equal(value, two.weights[name]), name
    for name in one.tables.__struct_fields__:
        np.testing.assert_array_equal(getattr(one.tables, name), getattr(two.tables, name))
    assert (one.learned_until, one.offsets) == (two.learned_until, two.offsets)


def taken_back(here: Installation, trainer: Trainer, releases: Releases, now: int, target: str) -> ModelUpdate:
    """What is announced when something was lost."""
    assert trainer.versions.held
    update = here.release(trainer, releases, now)
    assert update is not None
    assert (update.stage, trainer.versions.serving.version) == ("promoted", update.version)
    assert f"back to {target}" in (update.reason or "")
    same_model(here, update.version, target)
    return update


@pytest.mark.parametrize("bundles", [0, 1], ids=["by its row changes", "a later version"])
def test_what_serves_and_is_worse_than_an_anchor_is_taken_back(tmp_path: Path, bundles: int) -> None:
    """The anchor serves again, as it was made; learning starts over from it, and row changes wait for a version that
    passes the gate.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    examples = stream.examples(120)
    trainer.learn(examples[:30], 0)
    if bundles:
        here.release(trainer, releases, 10)
    trainer.learn(examples[30:60], 20)
    assert trainer.deltas(25), "row changes go out at once"
    rank(trainer, 60, ours=3, theirs=3, anchor=1)
    update = taken_back(here, trainer, releases, 30, here.first)
    first = fetch_origin(here.settings.trainer, here.first)
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), first.weights[name].numpy())
    assert (len(trainer.replay), trainer.learn(examples[:60], 35).trained) == (0, 0)
    trainer.learn(examples[60:], 40)
    assert trainer.versions.held
    passed = here.release(trainer, releases, 50)
    assert passed is not None
    assert not trainer.versions.held
    trainer.learn(stream.examples(20, seed=1), 60)
    assert [delta.base for delta in trainer.deltas(70)] == [passed.version]
    counted = releases._metrics.registry.get_sample_value
    assert counted("liverank_trainer_returns_total") == 1
    assert update.version in registry_versions(here.settings.registry.address, "default")


def test_learning_that_is_worse_alone_goes_back_to_what_serves(tmp_path: Path) -> None:
    """What serves lost nothing: it serves on, without the row changes since, and learning starts over from it."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(30), 0)
    good = here.release(trainer, releases, 10)
    assert good is not None
    trainer.learn(stream.examples(30, seed=1), 20)
    rank(trainer, 60, ours=3, theirs=1, anchor=1)
    assert trainer.versions.goes_back() == good.version
    update = here.release(trainer, releases, 30)
    assert update is not None
    same_model(here, update.version, good.version)


def test_a_trainer_that_dies_on_its_way_back_starts_over_from_there(tmp_path: Path) -> None:
    """Whether or not it had heard its own announcement; row changes wait still."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(30), 0)
    rank(trainer, 60, ours=3, theirs=3, anchor=1)
    draft = releases.draft(10)
    releases.save(draft.state)
    update = releases.write(draft)
    assert update is not None
    assert releases.confirm(draft, update)
    here.updates.append(update)
    trainer, releases = here.start()
    first = fetch_origin(here.settings.trainer, here.first)
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), first.weights[name].numpy())
    assert trainer.versions.held
    assert trainer.learn(stream.examples(30), 20).trained == 0
    trainer.learn(stream.examples(30, seed=1), 30)
    assert here.release(trainer, releases, 40) is not None
    assert not trainer.versions.held


def test_nothing_goes_back_where_somebody_else_decided(tmp_path: Path) -> None:
    """Not while a version is pinned, nor where another one was made to serve meanwhile; a missing registry is waited
    for.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(30), 0)
    rank(trainer, 60, ours=3, theirs=3, anchor=1)
    releases.announced(here.model_update(here.first, "pinned"))
    assert releases.draft(10).back is None
    releases.announced(here.model_update(here.first, "promoted"))
    home, away = tmp_path / "registry" / "default", tmp_path / "away"
    home.rename(away)
    assert here.release(trainer, releases, 20) is None
    away.rename(home)
    draft = releases.draft(30)
    update = releases.write(draft)
    assert update is not None
    releases.announced(here.model_update(here.first, "pinned"))
    assert not releases.confirm(draft, update)
    assert trainer.versions.held


def test_an_anchor_stays_for_its_time_and_is_kept(tmp_path: Path) -> None:
    """After an hour of the stream what serves then is one, after a day it is both; a restart has them again, with what
    they were compared on, and pruning leaves their bundles.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    anchors = trainer.versions.anchors
    trainer.learn(stream.examples(20), 0)
    rank(trainer, LEAST_COMPARED, ours=1, theirs=1, anchor=2, every_ms=10)
    update = here.release(trainer, releases, 10)
    assert anchors.versions == [here.first], "only seconds have passed"
    trainer.learned_until = stream.START + SPANS["hour"] + 60_000
    trainer.learn(stream.examples(5, seed=1), 20)
    update = here.release(trainer, releases, 30)
    assert update is not None
    assert {name: anchor.version for name, anchor in anchors.by_span.items()} == {
        "hour": update.version, "day": here.first,
    }  # fmt: skip
    for round_ in range(4):
        trainer.learn(stream.examples(5, seed=2 + round_), 40)
        here.release(trainer, releases, 50 + round_)
        releases.prune()
    assert {update.version, here.first} <= set(registry_versions(here.settings.registry.address, "default"))
    rank(trainer, 15, ours=1, theirs=2, anchor=1)
    releases.save(capture(trainer))
    again, _ = here.start()
    assert again.versions.anchors.by_span == anchors.by_span
    assert anchors.by_span["hour"].serving.count >= 15


def test_what_may_be_worse_does_not_become_an_anchor(tmp_path: Path) -> None:
    """Otherwise each hour's loss would be the next one's measure."""
    here = Installation(tmp_path)
    trainer, _ = here.start()
    anchors = trainer.versions.anchors
    rank(trainer, LEAST_COMPARED, ours=2, theirs=2, anchor=2)
    later = stream.START + SPANS["day"] + 60_000
    assert set(anchors.due(later)) == set(SPANS)
    rank(trainer, 60, ours=2, theirs=20, anchor=2)
    assert anchors.due(later) == []


def test_whoever_promotes_decides(tmp_path: Path) -> None:
    """A version that somebody made serve is the measure from then on, whatever was better before."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(30), 0)
    update = here.release(trainer, releases, 10)
    assert update is not None
    rank(trainer, 60, ours=3, theirs=3, anchor=1)
    releases.announced(here.model_update(here.first, "promoted"))
    releases.comply()
    assert not trainer.versions.held
    assert trainer.versions.anchors.versions == [here.first]
    assert trainer.versions.goes_back() is None


def test_anchors_rank_a_sample_of_what_drew_something() -> None:
    """Up to so many of a step; those that drew nothing say nothing of ranks."""
    trainer = stream.trainer(anchor_sample=5)
    made = stream.examples(60)
    drew = sum(example.outcome is not None for example in made[:32])
    trainer.learn(made[:32], 0)
    hour = trainer.versions.anchors.by_span["hour"]
    assert 3 <= hour.trainer.count <= 5 < drew
    trainer.learn(made[32:], 10)
    assert trainer.versions.anchors.by_span["hour"].trainer.count > hour.trainer.count
