"""A log as examples: folded as a worker would fold it, each example with its features as they were then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from online_learning.data.log_fold import Fold, Step, chosen_from_list, time_of
from online_learning.data.recall import CountRecall
from online_learning.learning.counts import FOLLOWED_BACK, ItemCounts
from online_learning.learning.learner import TrainingExample, training_example
from online_learning.progress import ProgressReport, Report
from ranker.contracts.ids import hash_id
from ranker.contracts.records import CandidateList, Example, Interaction, User
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import UNKNOWN
from ranker.items.tables import ItemTables
from ranker.state.attribution import example_of_silence, examples_of
from ranker.state.row import UserRow

ATTRIBUTION_MS = 30_000


def gather(
    records: Iterable[Interaction | CandidateList | User],
    tables: ItemTables,
    schema: FeatureSchema,
    report: Report,
    lag_s: float = 0.0,
    recall: CountRecall | None = None,
) -> tuple[list[TrainingExample], int]:
    """Every example of a log with its features as they were then, and the newest time in it.

    Args:
        records: in order of time.
        tables: their item counts move on with the log, each event after its own example.
        schema: of the data set.
        report: called with how far it is.
        lag_s: how much later than an event, in the log's time, it is counted. Served counts are as old as the last
            sync; examples whose counts already hold the user's own last touches would teach what serving never sees.
        recall: makes a list before each positive event; None where the log has its own.
    """
    counts = ItemCounts(tables)
    rows = Fold(schema)
    examples: list[TrainingExample] = []
    uncounted: deque[Step] = deque()
    newest = 0
    for number, record in enumerate(_recalled(records, rows, tables, schema, recall)):
        step = rows.apply(record)
        while uncounted and time_of(uncounted[0].record) < time_of(record) - lag_s * 1000:
            count(uncounted.popleft(), counts, schema)
        made = step_examples(step, tables, schema)
        examples += [training_example(one, tables, schema) for one in made if recall is None or one.outcome is not None]
        uncounted.append(step)
        newest = max(newest, step.after.now)
        if number % 1000 == 0:
            report(ProgressReport("events", number, 0, f"{len(examples)} examples"))
    for step in uncounted:
        count(step, counts, schema)
    return examples, newest


def _recalled(
    records: Iterable[Interaction | CandidateList | User],
    rows: Fold,
    tables: ItemTables,
    schema: FeatureSchema,
    recall: CountRecall | None,
) -> Iterator[Interaction | CandidateList | User]:
    """The records, with a list before each positive event of a user who has a history, from what is counted by then."""
    positives = {action.name for action in schema.positives}
    for record in records:
        if recall is not None and isinstance(record, Interaction):
            row = rows.row(record.user_id)
            if row.events and record.action in positives:
                yield recall(row, tables, time_of(record), f"recalled-{record.event_id}", record.user_id)
            recall.know(record.item_id)
        yield record


def step_examples(
    step: Step, tables: ItemTables, schema: FeatureSchema, window_ms: int = ATTRIBUTION_MS, model: str = ""
) -> list[Example]:
    """The examples of one step of a log, as a worker would send them."""
    statistics = partial(_statistics, tables)
    return examples_of(step.before, step.record, step.after, schema, window_ms, model, statistics)


def silence_example(user_id: str, row: UserRow, tables: ItemTables, schema: FeatureSchema) -> Example | None:
    """The example of a row's list once its window has passed without a choice, as a worker would send it."""
    return example_of_silence(user_id, row, schema, ATTRIBUTION_MS, "", partial(_statistics, tables))


def _statistics(tables: ItemTables, items: tuple[str, ...]) -> np.ndarray:
    tables.sync()
    return tables.statistics[[tables.catalog.index_of.get(hash_id(item), UNKNOWN) for item in items]]


def count(step: Step, counts: ItemCounts, schema: FeatureSchema) -> None:
    """Count an event into the tables, once its example is made."""
    record, catalog = step.record, counts.tables.catalog
    if isinstance(record, CandidateList) and step.after.candidates is not None:
        indexes = [catalog.add(hash_id(item)) for item in step.after.candidates.item_ids]
        counts.show(np.array(indexes, np.int64))
    elif isinstance(record, Interaction):
        index = catalog.add(hash_id(record.item_id))
        counts.touch(index)
        if chosen_from_list(step) is not None and schema.positive_numbers[schema.action_number(record.action)]:
            counts.choose(index)
        counts.follow([catalog.add(item) for item in step.before.newest_items(FOLLOWED_BACK)], index)
