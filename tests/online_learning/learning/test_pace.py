"""A model that began with the starter learns fast at first and at the settled pace in the end; any other as ever."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch

from online_learning.learning.pace import LearningPace, pace_of
from online_learning.online_recipe import OnlineRecipe
from online_learning.releases.origins import emptied
from online_learning.trainer.state import capture, restore
from online_learning.trainer.trainer import Trainer
from ranker.items.catalog import Catalog
from tests.support import stream

ONLINE = OnlineRecipe()


def trainer(since_starter: int | None) -> Trainer:
    """One that starts from a version so old."""
    origin = msgspec.structs.replace(stream.origin(), since_starter=since_starter)
    torch.manual_seed(0)
    return Trainer(origin, Catalog(), stream.online(), stream.RECIPE)


def dense(of: Trainer) -> np.ndarray:
    """All published dense weights in a row."""
    return np.concatenate([value.numpy().ravel() for value in of.optimisation.merged_weights().values()])


def test_a_model_that_was_trained_keeps_the_settled_pace() -> None:
    """However many examples it has learned from."""
    assert pace_of(ONLINE, None) == LearningPace(1.0, ONLINE.averaging, ONLINE.replayed)


def test_the_pace_settles() -> None:
    """With each example it is slower and averaged longer; after a million it is all but the settled one."""
    paces = [pace_of(ONLINE, since) for since in (0, 1, 64, 500, 4000, 100_000, 1_000_000)]
    for before, after in pairwise(paces):
        assert before.rate > after.rate > 1
        assert before.averaging <= after.averaging <= ONLINE.averaging
        assert before.replayed >= after.replayed >= ONLINE.replayed
    assert paces[-1] == pytest.approx(pace_of(ONLINE, None), rel=0.05)


def test_a_young_model_moves_farther_on_the_same_examples() -> None:
    """The first examples move the starter's dense weights many times as far as those of a trained model."""
    young, trained, start = trainer(0), trainer(None), dense(trainer(None))
    for one in (young, trained):
        one.learn(stream.examples(40)[:32], 0)
    moved = [np.linalg.norm(dense(one) - start) for one in (young, trained)]
    assert moved[0] > 3 * moved[1]


def test_age_goes_on_over_restarts_and_releases() -> None:
    """Checkpoint and candidate know it; somebody else's version brings its own; a trained one has none."""
    first, second = trainer(0), trainer(0)
    done = first.learn(stream.examples(40), 0)
    restore(second, capture(first))
    assert second.since_starter == first.since_starter == done.trained > 30
    assert first.candidate("v1", 1).since_starter == done.trained
    other = msgspec.structs.replace(stream.origin(version="other"), since_starter=7)
    first.start_over(other, first.versions.snapshot("other", other.weights, other.tables))
    assert first.since_starter == 7
    old = trainer(None)
    old.learn(stream.examples(40), 0)
    assert old.since_starter is None


def test_an_emptied_starter_is_as_young() -> None:
    """What has learned nothing learns as fast."""
    found = emptied(msgspec.structs.replace(stream.origin(), since_starter=0))
    assert found.since_starter == 0


def test_the_more_wait_the_less_is_done_with_each() -> None:
    """First nothing is replayed, then a share is left out: as much as comes to what may wait."""
    steps = [pace_of(ONLINE, None, waiting) for waiting in (0, ONLINE.behind // 2, ONLINE.behind, 3 * ONLINE.behind)]
    assert [step.replayed for step in steps] == [1.0, 0.5, 0.0, 0.0]
    assert [step.one_of for step in steps] == [1, 1, 2, 4]
