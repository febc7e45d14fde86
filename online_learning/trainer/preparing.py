"""From an example to what the trainer learns from, or to the reason why not: each is checked before others share its
batch.

What a state holds was right when a worker wrote it, and may have been damaged on the way; one number that is not finite
would make the loss of its whole batch so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from online_learning.learning.learner import Learner, TrainingExample, shown_statistics, training_example
from online_learning.releases.versions import Versions
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example
from ranker.contracts.schema import MAX_ACTIONS, FeatureSchema
from ranker.features.list import list_inputs
from ranker.features.user import UserInputs
from ranker.items.tables import STATISTICS
from ranker.state.codec import decode_row
from ranker.state.row import EVENT, UserRow

log = logging.getLogger(__name__)

_Fit = TypeVar("_Fit")


class Others(NamedTuple):
    """An example's features as the serving version and the first one see them."""

    serving: UserInputs
    first: UserInputs


class Prepared(NamedTuple):
    """An admitted example with its features, and those that others see where it is one of the tested."""

    example: Example
    row: UserRow
    training: TrainingExample
    others: Others | None


def checked_row(example: Example, schema: FeatureSchema) -> UserRow:
    """An example's state.

    Raises:
        InvalidRecord: the example does not hold together.
        RowError: its state is no row.
    """
    row = decode_row(example.state)
    check_example(example, row, schema)
    return row


def prepared(
    example: Example, learner: Learner, versions: Versions, schema: FeatureSchema, *, tested: bool = True
) -> Prepared:
    """Features as of now: nothing of the example itself has been counted yet. Its new items get rows.

    Raises:
        InvalidRecord: the example does not hold together, or its features are not finite.
        RowError: its state is no row.
    """
    row, catalog = checked_row(example, schema), learner.tables.catalog
    assert row.candidates is not None
    catalog.add_all(row.candidates.hashes)
    learner.tables.sync()
    training, others = training_example(example, learner.tables, schema, row), None
    if tested:
        listed = list_inputs(row, catalog, schema)
        shown = shown_statistics(example)
        others = Others(versions.serving.inputs(row, listed, shown), versions.first.inputs(row, listed))
    for inputs in (training.inputs, *(others or ())):
        for name in ("gap", "value", "age", "features", "covisit", "context"):
            if not np.isfinite(getattr(inputs, name)).all():
                raise InvalidRecord("not-finite", f"its {name} are not finite; all numbers must be")
    return Prepared(example, row, training, others)


def prepare_all(
    examples: Sequence[Example], learner: Learner, versions: Versions, schema: FeatureSchema, most_tested: int
) -> tuple[list[Prepared], list[str]]:
    """Those that hold together, and the ids of the others, which the log names.

    Args:
        examples: of one step.
        learner: what learns.
        versions: what else ranks the tested ones.
        schema: of the model.
        most_tested: so many of them at most are tested, evenly spaced.
    """
    every = max(1, -(-len(examples) // most_tested))
    tested = {example.example_id for example in examples[::every]}
    return those_fit(examples, lambda one: prepared(one, learner, versions, schema, tested=one.example_id in tested))


def those_fit(examples: Sequence[Example], make: Callable[[Example], _Fit]) -> tuple[list[_Fit], list[str]]:
    """What is made of the examples, and the ids of those that nothing can be made of, which the log marks."""
    made: list[_Fit] = []
    unfit: list[str] = []
    for example in examples:
        try:
            made.append(make(example))
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.error("%s cannot be learned from: %r", example_mark(example.example_id), error)
            unfit.append(example.example_id)
    return made, unfit


def example_mark(example_id: str) -> str:
    """What a log calls an example: by a hash, since its id begins with the user's."""
    return f"example {hash_id.__wrapped__(example_id) & (1 << 64) - 1:016x}"


def readable(example: Example, schema: FeatureSchema, earlier: frozenset[str]) -> bool:
    """Whether an example is of this schema, or of an earlier one (by its hash) and of an action still predicted."""
    if schema.named(example.schema):
        return True
    outcome = example.outcome
    return example.schema in earlier and (
        outcome is None or any(outcome.action == action.name for action in schema.positives)
    )


def check_example(example: Example, row: UserRow, schema: FeatureSchema) -> None:
    """An example's parts belong together.

    Raises:
        InvalidRecord: which do not.
    """
    if row.candidates is None:
        raise InvalidRecord("misfit", "its state has no list; it must hold the one that was shown")
    shown = row.candidates.item_ids
    _check_shown(example, shown)
    events = np.frombuffer(row.events, EVENT)
    if len(events) > schema.window or row.count < len(events):
        raise InvalidRecord(
            "misfit", f"its state holds {len(events)} of {row.count} events; at most {schema.window} are kept"
        )
    if (events["action"] >= MAX_ACTIONS).any():
        raise InvalidRecord("misfit", f"its state holds an action that no schema has; there are at most {MAX_ACTIONS}")
    outcome = example.outcome
    if outcome is None:
        return
    if outcome.item_id not in shown:
        raise InvalidRecord("misfit", f"its outcome names {outcome.item_id!r}, which was not shown")
    if outcome.action not in (positive := [action.name for action in schema.positives]):
        raise InvalidRecord("misfit", f"its outcome is {outcome.action!r}; valid are {', '.join(positive)}")


def _check_shown(example: Example, shown: tuple[str, ...]) -> None:
    """What an example says of the items of its state's list is said of each of them."""
    if example.items:  # of an earlier release
        if shown != tuple(item.item_id for item in example.items):
            raise InvalidRecord(
                "misfit", "its items are not those of the list in its state; they must be, in that order"
            )
        if any(len(item.statistics) != len(STATISTICS) for item in example.items):
            raise InvalidRecord("misfit", f"an item has not the statistics {', '.join(STATISTICS)}")
        return
    for column, size in (("statistics", 4 * len(STATISTICS)), ("ranks", 4), ("propensities", 8)):
        taken, wanted = len(getattr(example, column)), size * len(shown)
        if taken != wanted and (taken or column == "statistics"):
            raise InvalidRecord("misfit", f"its {column} are {taken} bytes; {len(shown)} items have {wanted}")
    if not (shown_statistics(example) >= 0).all():
        raise InvalidRecord("misfit", "its statistics are no counts; each must be a number from 0 on")
