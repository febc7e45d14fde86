"""How well a served model ranks the lists of a log, next to what would be there without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.data.log_fold import Step, chosen_from_list, fold
from online_learning.evaluation.metrics import NOT_FOUND, of_ranks, pessimistic_rank, summarise
from ranker.contracts.records import Interaction, Item
from ranker.contracts.schema import FeatureSchema
from ranker.serving.model import ServingModel
from ranker.state.row import UserRow

#: A ranker by its scores: float [items] of the row's current list, higher is better.
Score = Callable[[UserRow], np.ndarray]
REPORTED = {"RR": "mrr", "nDCG@10": "ndcg@10"}
MetricFigures = dict[str, dict[str, float]]


class Query(NamedTuple):
    """A list just before it drew a positive action: the row, the chosen place, and the event that chose it."""

    row: UserRow
    chosen: int
    event: Interaction


def queries(
    records: Iterable[LogRecord], schema: FeatureSchema, start: int | None = None, end: int | None = None
) -> Iterator[Query | Item]:
    """Every clicked list with start <= time of the click < end, from the past alone; items pass through."""
    positives = {action.name for action in schema.positives}
    for step in fold(records, schema):
        if isinstance(step, Item):
            yield step
        elif (query := _query(step, positives)) is not None and _within(query.event.ts, start, end):
            yield query


def evaluate_lists(
    asked: Iterable[Query | Item],
    model: ServingModel,
    peers: dict[str, Score],
    report: Callable[[int], None] = lambda _: None,
) -> tuple[int, dict[str, MetricFigures]]:
    """The number of lists, and for each ranker the metrics with their 95 % intervals.

    Args:
        asked: what `queries` gave.
        model: ranks as it would in a worker; it learns nothing here.
        peers: rankers by name.
        report: called with the number of lists ranked so far.
    """
    ranks: dict[str, list[int]] = {"liverank": [], **{name: [] for name in peers}}
    for number, query in enumerate(asked):
        if isinstance(query, Item):
            model.catalog.put(query)
            continue
        ranks["liverank"].append(served_rank(model, query))
        for name, score in peers.items():
            ranks[name].append(pessimistic_rank(score(query.row), query.chosen))
        report(number)
    figures = {name: summarise_ranks(np.array(found, np.int64)) for name, found in ranks.items()}
    return len(ranks["liverank"]), figures


def served_rank(model: ServingModel, query: Query) -> int:
    """Where the model puts the chosen item, ties against it; `NOT_FOUND` where a rule keeps it out."""
    ranked = model.rank([(query.event.user_id, query.row)])[0]
    return rank_of(query.event.item_id, ranked.item_ids, ranked.scores)


def rank_of(item_id: str, item_ids: list[str], scores: list[float]) -> int:
    """The place of an item in a ranking, ties against it; `NOT_FOUND` where it is not in it."""
    if item_id not in item_ids:
        return NOT_FOUND
    return pessimistic_rank(np.array(scores), item_ids.index(item_id))


def summarise_ranks(ranks: np.ndarray) -> MetricFigures:
    """`mrr` and `ndcg@10`, each as value, low and high."""
    return {REPORTED[name]: summarise(values)._asdict() for name, values in of_ranks(ranks).items()}


def _query(step: Step, positives: set[str]) -> Query | None:
    chosen = chosen_from_list(step)
    if chosen is None or not isinstance(step.record, Interaction) or step.record.action not in positives:
        return None
    return Query(chosen.row, chosen.place, step.record)


def _within(ts: int | None, start: int | None, end: int | None) -> bool:
    return ts is not None and (start is None or ts >= start) and (end is None or ts < end)
