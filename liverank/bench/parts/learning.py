"""`liverank bench learning`: the examples that a trainer learns from in a second of one core's time.

Simulated users get lists and click; of what they do examples are made as a worker makes them, and the trainer's core
learns from those in full batches: tested, learned from, counted and remembered. No broker, no process, one thread; the
model has the default sizes, and random weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from liverank.bench.models import VersionMaker, bench_people, item_vectors
from liverank.measure.machine import bare_machine
from liverank.settings import Settings, changed
from online_learning.data.log_fold import Fold
from online_learning.first_model.log_examples import step_examples
from online_learning.online_recipe import OnlineRecipe
from online_learning.releases.origins import fetch_origin
from online_learning.settings import TrainerSettings
from online_learning.trainer.trainer import Trainer
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Example, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables

_NOW, _APART_MS = 1_800_000_000_000, 50
_MINUTE_MS = 60_000
_MOST_PER_USER = 20  # of the measured examples, so that there are users enough


@dataclass(frozen=True)
class LearningOptions:
    """What the user chose."""

    examples: int = 2048
    items: int = 10_000
    candidates: int = 100
    history: int = 50  # events that a user has done before
    batch: int = 64


def bench_learning(options: LearningOptions, console: Console) -> dict[str, Any]:
    """Measure it.

    Raises:
        LiverankError: the sizes do not fit together.
    """
    if min(options.examples, options.batch) < 1 or options.history < 0 or not 2 <= options.candidates <= options.items:
        raise LiverankError("examples and batch must be at least 1, history 0, candidates 2 to items")
    with TemporaryDirectory(prefix="liverank-learning-") as temporary, console.status("a model and its users") as said:
        folder, names = Path(temporary), [f"item-{number:08}" for number in range(options.items)]
        settings = changed(Settings(), registry=str(folder / "registry"))
        version = VersionMaker(settings, names, folder).publish().version
        catalog, schema = Catalog(), FeatureSchema()
        for vector in item_vectors(names):
            catalog.put_vector(vector)
        origin = fetch_origin(TrainerSettings(registry=settings.registry, data=folder / "trainer"), version)
        with threadpool_limits(1):
            torch.set_num_threads(1)
            trainer = Trainer(origin, catalog, OnlineRecipe(batch=options.batch), origin.recipe)
            made = list(_examples(names, trainer.learner.tables, schema, options))
            said.update(f"{len(made)} examples")
            return _measured(trainer, made, options)


def _examples(
    names: list[str], tables: ItemTables, schema: FeatureSchema, options: LearningOptions
) -> Iterator[Example]:
    """What workers would send of these users; as many for warming up as are measured, up to eight batches."""
    wanted = options.examples + min(options.examples, 8 * options.batch)
    users = bench_people("learning", names, max(1, wanted // _MOST_PER_USER), options.candidates)
    rows, order, made, now = Fold(schema), Random(0), 0, _NOW
    for user in users:
        for number in range(options.history):
            past = now - (options.history - number) * _MINUTE_MS
            rows.apply(
                Interaction(
                    user_id=user.user_id, item_id=order.choice(names), action="view", event_id=f"past-{number}", ts=past
                )
            )  # fmt: skip
    while made < wanted:
        now += _APART_MS
        for one in step_examples(rows.apply(order.choice(users).next_record(now)), tables, schema):
            made += 1
            yield one


def _measured(trainer: Trainer, made: list[Example], options: LearningOptions) -> dict[str, Any]:
    warm, learned, took = len(made) - options.examples, 0, list[float]()
    for part in (made[:warm], made[warm:]):
        learned, took = 0, []
        for start in range(0, len(part), options.batch):
            began = time.process_time()
            done = trainer.learn(part[start : start + options.batch], _NOW)
            learned += done.trained
            took.append((time.process_time() - began) / max(1, done.trained))
    each = median(took)
    return {
        "examples": learned,
        "cpu_ms": round(1000 * each, 3),
        "examples_per_second": round(1 / each, 1),
        "machine": bare_machine(),
        "options": asdict(options),
    }
