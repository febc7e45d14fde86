"""A log as examples: folded as a worker would fold it, each example with its features as they were then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from online_learning.counting.counts import FOLLOWED_BACK, ItemCounts
from online_learning.data.log_fold import Fold, Step, chosen_from_list, time_of
from online_learning.data.recall import CountRecall
from online_learning.first_model.stored_examples import StoredExamples
from online_learning.learning.learner import training_example
from online_learning.progress import ProgressReport, Report
from ranker.contracts.ids import hash_id
from ranker.contracts.records import CandidateList, Example, Interaction, User
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import UNKNOWN
from ranker.items.tables import ItemTables
from ranker.registry.words import WordsOf, no_words
from ranker.state.attribution import ShownList, example_of_silence, examples_of
from ranker.state.fold import DEFAULT_RULES, RowRules
from ranker.state.row import CurrentList, UserRow

ATTRIBUTION_MS = 30_000
#: Recalled lists are on nobody's page: each takes the place of the one before.
ONE_LIST = RowRules(lists=1)


def gather(
    records: Iterable[Interaction | CandidateList | User],
    tables: ItemTables,
    schema: FeatureSchema,
    report: Report,
    lag_s: float = 0.0,
    recall: CountRecall | None = None,
    words: WordsOf = no_words,
) -> tuple[StoredExamples, int]:
    """Every example of a log with its features as they were then, and the newest time in it.

    Args:
        records: in order of time.
        tables: their item counts move on with the log, each event after its own example.
        schema: of the data set.
        report: called with how far it is.
        lag_s: how much later than an event, in the log's time, it is counted. Served counts are as old as the last
            sync; examples whose counts already hold the user's own last touches would teach what serving never sees.
        recall: makes a list before each positive event; None where the log has its own.
        words: encodes what users type.
    """
    counts = ItemCounts(tables)
    rows = Fold(schema, DEFAULT_RULES if recall is None else ONE_LIST, words=words)
    examples = StoredExamples()
    uncounted: deque[tuple[int, Counted]] = deque()
    newest = 0
    for number, record in enumerate(_recalled(records, rows, tables, schema, recall)):
        step = rows.apply(record)
        while uncounted and uncounted[0][0] < time_of(record) - lag_s * 1000:
            count(uncounted.popleft()[1], counts)
        counts.write()
        for one in step_examples(step, tables, schema):
            if recall is None or one.outcome is not None:
                examples.append(training_example(one, tables, schema))
        uncounted.append((time_of(record), counted(step, schema)))
        newest = max(newest, step.after.now)
        if number % 1000 == 0:
            report(ProgressReport("events", number, 0, f"{len(examples)} examples"))
    for _, waiting in uncounted:
        count(waiting, counts)
    counts.write()
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
            if row.events and record.action in positives and record.item_id is not None:
                yield recall(row, tables, time_of(record), f"recalled-{record.event_id}", record.user_id)
            if record.item_id is not None:
                recall.know(record.item_id)
        yield record


def step_examples(
    step: Step, tables: ItemTables, schema: FeatureSchema, window_ms: int = ATTRIBUTION_MS, model: str = ""
) -> list[Example]:
    """The examples of one step of a log, as a worker would send them."""
    shown = ShownList(model, partial(_statistics, tables))
    return list(examples_of(step.before, step.record, step.after, schema, window_ms, lambda _: shown))


def silence_example(user_id: str, row: UserRow, tables: ItemTables, schema: FeatureSchema) -> Example | None:
    """The example of a row's newest list once its window has passed without a choice, as a worker would send it."""
    assert row.candidates is not None
    shown = ShownList("", partial(_statistics, tables))
    return example_of_silence(user_id, row, row.candidates, schema, ATTRIBUTION_MS, lambda _: shown)


def _statistics(tables: ItemTables, listed: CurrentList) -> np.ndarray:
    tables.sync()
    return tables.statistics[[tables.catalog.index_of.get(item, UNKNOWN) for item in listed.hashes.tolist()]]


class Counted(NamedTuple):
    """What one step adds to the counts, its items by the hashes of their ids: small, for many may wait at a time."""

    shown: np.ndarray  # int64, the items of a list
    touched: int | None = None  # the item of an event
    chosen: bool = False  # whether it was chosen from the list, by a positive action
    trail: tuple[int, ...] = ()  # what its user had touched before, oldest first


def counted(step: Step, schema: FeatureSchema) -> Counted:
    """What a step adds to the counts, once its example is made."""
    record, shown = step.record, np.zeros(0, np.int64)
    if isinstance(record, CandidateList) and (listed := step.after.named(record.request_id)) is not None:
        shown = listed.hashes
    if not isinstance(record, Interaction) or record.item_id is None:
        return Counted(shown)
    positive = bool(schema.positive_numbers[schema.action_number(record.action)])
    return Counted(
        shown,
        touched=hash_id(record.item_id),
        chosen=positive and chosen_from_list(step) is not None,
        trail=tuple(step.before.newest_items(FOLLOWED_BACK)),
    )


def count(added: Counted, counts: ItemCounts) -> None:
    """Count it into the tables; items that are new to the catalogue get their place there."""
    catalog = counts.tables.catalog
    if len(added.shown):
        counts.show(catalog.add_all(added.shown))
    if added.touched is not None:
        index = catalog.add(added.touched)
        counts.touch(index)
        if added.chosen:
            counts.choose(index)
        counts.follow([catalog.add(item) for item in added.trail], index)
