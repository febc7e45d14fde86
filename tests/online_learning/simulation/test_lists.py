"""A log's own lists on a simulated clock: ranked as a worker would, from the past alone, then learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from online_learning.evaluation.lists import queries, served
from online_learning.online_recipe import OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.origins import emptied, read_origin
from online_learning.releases.versions import Origin
from online_learning.simulation.lists import ListSimulation, simulate_lists
from ranker.items.catalog import Catalog
from ranker.serving.model import load_model
from ranker.serving.options import ServingOptions
from ranker.starter.bundle import publish_starter
from tests.support import stream

ONLINE = OnlineRecipe(batch=32, id_dropout=0.0, delta_ms=60_000, bundle_ms=300_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter of the stream's schema."""
    registry = tmp_path_factory.mktemp("registry")
    return registry / "default" / publish_starter(stream.SCHEMA, str(registry))


def ranks(origin: Origin, sync_ms: int | None, lists: int) -> np.ndarray:
    """The ranks of all clicks."""
    simulation = ListSimulation(origin, Recipe(id_dropout=0.0), ONLINE, sync_ms)
    ranked = simulate_lists(stream.records(lists), simulation, None, None)
    return np.array([one.rank for _, one in ranked if one is not None])


def test_frozen_it_ranks_as_a_worker_would(folder: Path) -> None:
    """Every click on a list is there, with the rank that the served graphs give it."""
    model = load_model(folder, Catalog(), ServingOptions(provider="cpu"))
    ranked = [one for _, one in served(queries(stream.records(40), stream.SCHEMA), model) if one is not None]
    assert len(ranked) == sum(getattr(record, "action", "view") != "view" for record in stream.records(40))
    assert ranks(read_origin(folder), None, 40).tolist() == [one.rank for one in ranked]


def test_empty_is_the_order_shown(folder: Path) -> None:
    """To the place, while nothing is learned."""
    simulation = ListSimulation(emptied(read_origin(folder)), Recipe(), ONLINE, None)
    ranked = [one for _, one in simulate_lists(stream.records(40), simulation, None, None) if one is not None]
    assert [one.rank for one in ranked] == [one.query.chosen + 1 for one in ranked]


def test_online_it_learns_what_people_go_by(folder: Path) -> None:
    """The last clicks on lists by a hidden worth are ranked better than by the starter, frozen."""
    learned, frozen = ranks(read_origin(folder), 60_000, 300), ranks(read_origin(folder), None, 300)
    assert np.mean(1 / learned[-100:]) > np.mean(1 / frozen[-100:]) + 0.05
