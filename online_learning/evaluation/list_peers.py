"""Rankers of lists that a model has to beat, and the protocol by which a person's own is asked beside them.

They are asked about a list before its click is learned, and keep all that they have seen: for measuring, not serving.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.evaluation.next_item import NextItemQuery, NextItemRanker
from online_learning.evaluation.peers import MarkovChain, SessionNeighbours
from ranker.contracts.records import Interaction
from ranker.contracts.schema import FeatureSchema

_MEMORY = 64  # newest items of a user


class AskedList(NamedTuple):
    """A list that a user is about to choose from: of which item? What chooses it is not told."""

    user_id: str
    ts: int  # milliseconds since the epoch
    items: tuple[str, ...]  # ids, each once, in the order shown


class ListRanker(Protocol):
    """Ranks one list, learns one record. It is told of a record after it was asked about it, never before.

    `--peer MODULE:CLASS` takes any class that has these two methods and is made without arguments.
    """

    def rank(self, asked: AskedList) -> Sequence[float] | np.ndarray:
        """One finite number an item, higher is better. Ties count against the ranker."""

    def learn(self, record: LogRecord) -> None:
        """Takes a record of the log in, in order of time: an `Interaction`, `CandidateList`, `Item` or `User`."""


class AsShown:
    """The list as the recall stage ordered it."""

    def rank(self, asked: AskedList) -> np.ndarray:
        """float64 [items]."""
        return -np.arange(len(asked.items), dtype=np.float64)

    def learn(self, record: LogRecord) -> None:
        """Nothing."""


class Touched:
    """What the user did something with comes first, the latest before the others; the rest as shown.

    It knows a user's newest items, of other sessions too.
    """

    def __init__(self) -> None:
        self._newest: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_MEMORY))

    def rank(self, asked: AskedList) -> np.ndarray:
        """float64 [items]."""
        last = {item: place for place, item in enumerate(self._newest.get(asked.user_id, ()), start=1)}
        return as_shown_where_equal(np.array([last.get(item, 0) for item in asked.items]))

    def learn(self, record: LogRecord) -> None:
        """Remembers what was touched."""
        if isinstance(record, Interaction) and record.item_id is not None:
            self._newest[record.user_id].append(record.item_id)


class MostChosen:
    """What was chosen most often, by anyone; where equal as shown."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._positives = {action.name for action in schema.positives}
        self._chosen: Counter[str] = Counter()

    def rank(self, asked: AskedList) -> np.ndarray:
        """float64 [items]."""
        return as_shown_where_equal(np.array([self._chosen[item] for item in asked.items]))

    def learn(self, record: LogRecord) -> None:
        """Counts a choice."""
        if isinstance(record, Interaction) and record.item_id is not None and record.action in self._positives:
            self._chosen[record.item_id] += 1


class NextInList:
    """A ranker of next items, asked about a list alone; where it says the same the order is as shown."""

    def __init__(self, ranker: NextItemRanker) -> None:
        self._ranker = ranker
        self._numbers: dict[str, int] = {}
        self._sessions: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_MEMORY))

    def rank(self, asked: AskedList) -> np.ndarray:
        """float64 [items]."""
        session, known = tuple(self._sessions.get(asked.user_id, ())), len(self._numbers)
        event = Interaction(user_id=asked.user_id, item_id=asked.items[0], ts=asked.ts)  # it looks at user and time
        scores = self._ranker.score(NextItemQuery(event, known, session, known, asked=True))
        numbers = [self._numbers.get(item) for item in asked.items]
        return as_shown_where_equal(np.array([0.0 if at is None else scores[at] for at in numbers]))

    def learn(self, record: LogRecord) -> None:
        """The user's session grows by the item."""
        if not isinstance(record, Interaction) or record.item_id is None:
            return
        known, session = len(self._numbers), self._sessions[record.user_id]
        item = self._numbers.setdefault(record.item_id, known)
        self._ranker.learn(NextItemQuery(record, item, tuple(session), known, asked=False))
        session.append(item)


class AmongAllItems:
    """A ranker of lists, asked for the next item: its list is all items that anybody has touched, in that order.

    It learns of events alone.
    """

    def __init__(self, ranker: ListRanker) -> None:
        self._ranker = ranker
        self._items: list[str] = []

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float64 [known]."""
        listed = AskedList(query.event.user_id, query.ts, tuple(self._items[: query.known]))
        return np.asarray(self._ranker.rank(listed), np.float64)

    def learn(self, seen: NextItemQuery) -> None:
        """Hands the event on."""
        if seen.item == len(self._items):
            self._items.append(seen.event.item_id or "")
        self._ranker.learn(seen.event)


def list_peers(schema: FeatureSchema) -> dict[str, ListRanker]:
    """The peers of every log with lists, by name, none of which has seen anything yet."""
    return {
        "shown": AsShown(),
        "touched": Touched(),
        "popularity": MostChosen(schema),
        "markov": NextInList(MarkovChain()),
        "neighbours": NextInList(SessionNeighbours()),
    }


def as_shown_where_equal(scores: np.ndarray) -> np.ndarray:
    """float64 [items]: numbers in the same order, no two alike; of equal ones the first shown is the highest."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    out = np.empty(len(scores))
    out[order] = -np.arange(len(scores), dtype=np.float64)
    return out
