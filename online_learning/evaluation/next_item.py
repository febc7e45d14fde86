"""Next-item evaluation of a stream: test each event, then learn from it, over every item seen so far.

The prequential protocol (J. Gama et al., "On evaluating stream learning algorithms", Machine Learning 90, 2013) for
logs that hold no lists: before an event is learned from, each ranker scores all items that any user has touched up to
then, and the rank of the event's own item counts. An item that nobody has touched before cannot be ranked and counts
as not found. Nothing is filtered: the same item twice in a row is a query like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.evaluation.metrics import NOT_FOUND, pessimistic_rank
from ranker.contracts.records import Interaction


@dataclass(frozen=True, slots=True)
class NextItemQuery:
    """An event and what came before it, its items as numbers: 0 is the item that was seen first of all, 1 the next new.

    Scored, it is a question (which of the items 0 to `known` - 1 is next in this session?), and `item` the answer.
    """

    event: Interaction
    item: int  # at least `known` where nobody has touched it before
    session: tuple[int, ...]  # the user's items before it, oldest first
    known: int  # items seen before it, by anyone
    asked: bool  # whether it is a query of the test, or only to learn from

    @property
    def ts(self) -> int:
        """Milliseconds since the epoch."""
        assert self.event.ts is not None
        return self.event.ts


class NextItemRanker(Protocol):
    """Scores what comes next, and learns from what came. `score` is never called after `learn` of the same event."""

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float [known], higher is better; it looks at the query's session and time, not at its item."""

    def learn(self, seen: NextItemQuery) -> None:
        """Takes an event in; called once for every event, in order of time."""


def next_item(
    records: Iterable[LogRecord], start: int, end: int | None = None, *, memory: int = 50
) -> Iterator[NextItemQuery]:
    """Every interaction with its session so far. It is asked where start <= ts < end and the session has begun.

    Args:
        records: in order of time; a user is a session. Lists, items and texts alone pass unused.
        start: milliseconds since the epoch; what comes before is there to learn from.
        end: milliseconds since the epoch; what comes after is not read.
        memory: items of a session that are kept. All open sessions are held.
    """
    numbers: dict[str, int] = {}
    sessions: dict[str, deque[int]] = {}
    for event in records:
        if not isinstance(event, Interaction) or event.item_id is None:
            continue
        assert event.ts is not None
        if end is not None and event.ts >= end:
            return
        known = len(numbers)
        item = numbers.setdefault(event.item_id, known)
        session = sessions.setdefault(event.user_id, deque(maxlen=memory))
        yield NextItemQuery(event, item, tuple(session), known, asked=event.ts >= start and len(session) > 0)
        session.append(item)


def prequential_ranks(events: Iterable[NextItemQuery], rankers: Mapping[str, NextItemRanker]) -> dict[str, np.ndarray]:
    """Ranks of the asked items: name -> int [queries], `NOT_FOUND` for an item seen for the first time."""
    ranks: dict[str, list[int]] = {name: [] for name in rankers}
    for event in events:
        for name, ranker in rankers.items():
            if event.asked:
                new = event.item >= event.known
                ranks[name].append(NOT_FOUND if new else pessimistic_rank(ranker.score(event), event.item))
            ranker.learn(event)
    return {name: np.array(found, np.int64) for name, found in ranks.items()}
