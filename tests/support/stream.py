"""A made-up stream of examples: lists of items with a hidden worth, of which people choose the worthiest."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import torch

from online_learning.counting.counts import ItemCounts
from online_learning.data.log_fold import Step, fold
from online_learning.first_model.log_examples import count, counted, step_examples
from online_learning.learning.learner import shown_statistics
from online_learning.learning.parallel import Parallel
from online_learning.online_recipe import OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.versions import Origin
from online_learning.trainer.trainer import Trainer
from ranker.contracts.records import Candidate, CandidateList, Example, Interaction, Shown
from ranker.contracts.schema import Action, FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.codec import decode_row
from tests.support.tiny import ENCODER, tiny_model, tiny_tables

START = 1_700_000_000_000
SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True), Action(name="buy", positive=True, weight=2.0)),
    window=8,
)
RECIPE = Recipe(id_dropout=0.0, neighbours=4)


def records(count: int, *, seed: int = 0, users: int = 20, items: int = 30, size: int = 6) -> list:
    """So many lists, each with a view and then a click (now and then a purchase, or nothing) on its worthiest item."""
    rng = random.Random(seed)
    made: list = []
    for number in range(count):
        ts, user = START + number * 40_000, f"user-{rng.randrange(users)}"
        listed = rng.sample(range(items), size)
        made.append(
            CandidateList(
                request_id=f"r{seed}-{number}", user_id=user, ts=ts,
                items=[Candidate(item_id=f"item-{item}") for item in listed],
            )
        )  # fmt: skip
        best = max(listed, key=worth)
        steps = [("view", rng.choice(listed)), *([("click", best)] if rng.random() < 0.9 else [])]
        steps += [("buy", best)] if rng.random() < 0.2 and len(steps) > 1 else []
        for at, (action, item) in enumerate(steps, start=1):
            made.append(
                Interaction(
                    user_id=user, item_id=f"item-{item}", action=action, ts=ts + 1000 * at,
                    event_id=f"e{seed}-{number}-{at}",
                )
            )  # fmt: skip
    return made


def worth(item: int) -> int:
    """What people go by."""
    return item * 7919 % 101


def examples(count_of_lists: int, *, seed: int = 0, schema: FeatureSchema = SCHEMA, **sizes: int) -> list[Example]:
    """The examples that a worker would send for `records`."""
    tables = ItemTables(tiny_tables(tiny_model(schema).config, []), Catalog(), ENCODER)
    counts = ItemCounts(tables)
    made: list[Example] = []
    for step in fold(records(count_of_lists, seed=seed, **sizes), schema):
        assert isinstance(step, Step)
        made += step_examples(step, tables, schema)
        count(counted(step, schema), counts)
    return made


def origin(schema: FeatureSchema = SCHEMA, *, items: int = 0, version: str = "v0") -> Origin:
    """A first model with random dense weights that knows `items` items."""
    model = tiny_model(schema, dropout=0.0)
    tables = tiny_tables(model.config, [f"item-{at}" for at in range(items)])
    tables = msgspec.structs.replace(tables, statistics=np.zeros_like(tables.statistics))
    return Origin(
        version=version, config=model.config, weights=model.state_dict(), tables=tables, schema=schema, encoder=ENCODER
    )


def items_of(example: Example) -> tuple[str, ...]:
    """The items of an example's list."""
    listed = decode_row(example.state).candidates
    assert listed is not None
    return listed.item_ids


def of_earlier_release(example: Example) -> Example:
    """As a worker wrote it that knew of no columns."""
    columns = zip(items_of(example), shown_statistics(example).tolist(), strict=True)
    items = [Shown(item_id=item, statistics=statistics) for item, statistics in columns]
    return msgspec.structs.replace(example, items=items, statistics=b"", ranks=b"", propensities=b"")


def online(**changes: object) -> OnlineRecipe:
    """Settings of a small trainer."""
    small = {
        "batch": 32, "window": 100, "replay": 200, "averaging": 0.5, "id_dropout": 0.0, "test_sample": 32,
    }  # fmt: skip
    return msgspec.convert({**small, **changes}, OnlineRecipe)


def trainer(schema: FeatureSchema = SCHEMA, parallel: Parallel | None = None, **changes: object) -> Trainer:
    """A trainer that starts from `origin`; `changes` override what differs from the defaults of `online`."""
    return Trainer(origin(schema), Catalog(), online(**changes), RECIPE, parallel=parallel)


def feed(trainer: Trainer) -> None:
    """A stream with everything in it that may happen to rows."""
    torch.manual_seed(5)
    made = examples(50)
    for number, start in enumerate(range(0, len(made), 9)):
        trainer.learn(made[start : start + 9], min(start, 30) + number)
    trainer.touched_at[1:6] = 1
    trainer.expire()
    trainer.learn(examples(12, seed=1, items=60), 40)
