"""How well rankers order the lists of a log: each is asked just before its choice, and learns of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.data.log_fold import Fold, Step, chosen_from_list, time_of
from online_learning.evaluation.list_peers import AskedList, ListRanker
from online_learning.evaluation.metrics import NOT_FOUND, of_ranks, paired_bootstrap, pessimistic_rank, summarise
from ranker.contracts.records import Interaction, Item
from ranker.contracts.schema import FeatureSchema
from ranker.registry.words import WordsOf, no_words
from ranker.serving.model import ServingModel
from ranker.state.row import UserRow

REPORTED = {"RR": "mrr", "nDCG@10": "ndcg@10"}
MetricFigures = dict[str, dict[str, float]]


class Query(NamedTuple):
    """A list just before it drew a positive action: the row, the chosen place, and the event that chose it."""

    row: UserRow
    chosen: int
    event: Interaction

    @property
    def asked(self) -> AskedList:
        """What a peer may know of it."""
        assert self.row.candidates is not None
        return AskedList(self.event.user_id, time_of(self.event), self.row.candidates.item_ids)


class RankedQuery(NamedTuple):
    """A query, and where liverank puts what was chosen, ties against it."""

    query: Query
    rank: int


class Judged(NamedTuple):
    """The ranks that a log's choices were given, in order of time: arrays [queries]."""

    times: np.ndarray  # int64, milliseconds since the epoch
    events: np.ndarray  # int64, how many of the log there had been by then
    users: np.ndarray  # whose they are
    ranks: dict[str, np.ndarray]  # ranker -> int64, `liverank` among them


def query_of(step: Step, schema: FeatureSchema) -> Query | None:
    """The query that a step of the log answers; None where it is no positive action on the user's list."""
    chosen, event = chosen_from_list(step), step.record
    if chosen is None or not isinstance(event, Interaction):
        return None
    return Query(*chosen, event) if schema.positive_numbers[schema.action_number(event.action)] else None


def queries(
    records: Iterable[LogRecord],
    schema: FeatureSchema,
    start: int | None = None,
    end: int | None = None,
    words: WordsOf = no_words,
) -> Iterator[tuple[LogRecord, Query | None]]:
    """Each record up to `end`, with the query that it answers where start <= its time, from the past alone."""
    rows = Fold(schema, words=words)
    for record in until(records, end):
        query = None if isinstance(record, Item) else query_of(rows.apply(record), schema)
        asked = query is not None and (start is None or time_of(query.event) >= start)
        yield record, query if asked else None


def until(records: Iterable[LogRecord], end: int | None) -> Iterator[LogRecord]:
    """The records before a time; those without one stand first in a log."""
    for record in records:
        if end is not None and not isinstance(record, Item) and time_of(record) >= end:
            return
        yield record


def served(
    asked: Iterable[tuple[LogRecord, Query | None]], model: ServingModel
) -> Iterator[tuple[LogRecord, RankedQuery | None]]:
    """The records, with each query ranked as a worker would rank it by a model that learns nothing."""
    for record, query in asked:
        if isinstance(record, Item):
            model.catalog.put(record)
        yield record, None if query is None else RankedQuery(query, served_rank(model, query))


def judge(
    ranked: Iterable[tuple[LogRecord, RankedQuery | None]],
    peers: Mapping[str, ListRanker],
    report: Callable[[int], None] = lambda _: None,
) -> Judged:
    """Asks the peers what liverank was asked.

    Args:
        ranked: every record of a log, in order of time, with the query that it answers where it is asked.
        peers: by name; each learns of every record once it was asked about it.
        report: called with the number of queries so far.
    """
    found: list[tuple[int, int, str]] = []
    ranks: dict[str, list[int]] = {"liverank": [], **{name: [] for name in peers}}
    events = 0
    for record, one in ranked:
        events += isinstance(record, Interaction)
        if one is not None:
            asked = one.query.asked
            found.append((asked.ts, events, asked.user_id))
            ranks["liverank"].append(one.rank)
            for name, peer in peers.items():
                ranks[name].append(pessimistic_rank(np.asarray(peer.rank(asked)), one.query.chosen))
            report(len(found))
        for peer in peers.values():
            peer.learn(record)
    times, counts, users = zip(*found, strict=True) if found else ((), (), ())
    return Judged(
        np.array(times, np.int64), np.array(counts, np.int64), np.array(users),
        {name: np.array(given, np.int64) for name, given in ranks.items()},
    )  # fmt: skip


def served_rank(model: ServingModel, query: Query) -> int:
    """Where the model puts the chosen item, ties against it; `NOT_FOUND` where a rule keeps it out."""
    ranked = model.rank([(query.event.user_id, query.row)])[0]
    return rank_of(query.asked.items[query.chosen], ranked.item_ids, ranked.scores.tolist())


def rank_of(item_id: str, item_ids: list[str], scores: list[float]) -> int:
    """The place of an item in a ranking, ties against it; `NOT_FOUND` where it is not in it."""
    if item_id not in item_ids:
        return NOT_FOUND
    return pessimistic_rank(np.array(scores), item_ids.index(item_id))


def summarise_ranks(ranks: np.ndarray, users: np.ndarray | None = None) -> MetricFigures:
    """`mrr` and `ndcg@10`, each as value, low and high: 95 % of a bootstrap over users, over queries where None."""
    return {REPORTED[name]: summarise(values, users)._asdict() for name, values in of_ranks(ranks).items()}


def compared(ranks: Mapping[str, np.ndarray], users: np.ndarray) -> dict[str, MetricFigures]:
    """liverank minus each peer, on the same queries: peer -> `mrr` and `ndcg@10` as value, low, high and p."""
    ours = of_ranks(ranks["liverank"])
    found = {}
    for name, theirs in ranks.items():
        if name != "liverank":
            values = of_ranks(theirs)
            found[name] = {
                REPORTED[measure]: paired_bootstrap(ours[measure], values[measure], users)._asdict() for measure in ours
            }
    return found
