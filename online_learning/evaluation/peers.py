"""Rankers of next items that a model has to beat; they keep all that they have seen: for measuring, not serving."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque

import numpy as np

from online_learning.evaluation.next_item import NextItemQuery, NextItemRanker


class Popularity:
    """How often each item was touched."""

    def __init__(self) -> None:
        self._counts = np.zeros(1024)
        self._total = 0

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float64 [known], below 1: each item's share of all touches."""
        share: np.ndarray = self._room(query.known)[: query.known] / (self._total + 1)
        return share

    def learn(self, seen: NextItemQuery) -> None:
        """Counts the item."""
        self._room(seen.item + 1)[seen.item] += 1
        self._total += 1

    def _room(self, size: int) -> np.ndarray:
        if size > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(max(size, len(self._counts)))])
        return self._counts


class MarkovChain:
    """First-order: the items that most often followed the session's last one; the most popular where counts are equal.

    Every pair of neighbours in a session counts once, in its direction, also where both are the same item.
    """

    def __init__(self) -> None:
        self._followers: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._popularity = Popularity()

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float64 [known]: whole numbers are the counts, the rest is popularity."""
        scores = self._popularity.score(query)
        followers = self._followers.get(query.session[-1], Counter()) if query.session else Counter()
        for item, count in followers.items():
            scores[item] += count
        return scores

    def learn(self, seen: NextItemQuery) -> None:
        """Counts the step from the session's last item to this one."""
        if seen.session:
            self._followers[seen.session[-1]][seen.item] += 1
        self._popularity.learn(seen)


class SessionNeighbours:
    """V-SKNN: sessions that share items with this one vote for their items, recent items weigh more.

    M. Ludewig and D. Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 28, 2018. Of the
    `sampled` newest sessions that share an item, the `neighbours` most similar vote.
    """

    def __init__(self, neighbours: int = 100, sampled: int = 500) -> None:
        self._neighbours = neighbours
        self._sampled = sampled
        self._sessions: dict[str, list[int]] = {}
        self._holding: defaultdict[int, deque[str]] = defaultdict(lambda: deque(maxlen=sampled))  # newest last
        self._touched: Counter[int] = Counter()  # in how many sessions
        self._newest: dict[str, int] = {}  # session -> when it last grew

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float64 [known]: 0 where no neighbour holds the item."""
        scores = np.zeros(query.known)
        length = len(query.session)
        weight = {item: place / length for place, item in enumerate(query.session, start=1)}
        for session, similarity in self._nearest(query, weight):
            items = self._sessions[session]
            # The place of the newest shared item, counted back from the end of the session that asks.
            newest = max(weight[item] for item in items if item in weight) * length
            step = length - newest + 1
            decay = max(1 - 0.1 * step, 0.0)
            for item in dict.fromkeys(items):
                rarity = math.log(len(self._sessions) / self._touched[item])
                scores[item] += similarity * decay * (1 + rarity)
        return scores

    def learn(self, seen: NextItemQuery) -> None:
        """The session grows by the item."""
        name = seen.event.user_id
        session = self._sessions.setdefault(name, [])
        if seen.item not in session:
            self._holding[seen.item].append(name)
            self._touched[seen.item] += 1
        session.append(seen.item)
        self._newest[name] = seen.ts

    def _nearest(self, query: NextItemQuery, weight: dict[int, float]) -> list[tuple[str, float]]:
        found = {session for item in weight for session in self._holding.get(item, ())}
        found.discard(query.event.user_id)
        recent = sorted(found, key=lambda session: (-self._newest[session], session))[: self._sampled]
        similar = [(name, sum(weight.get(item, 0.0) for item in set(self._sessions[name]))) for name in recent]
        return sorted(similar, key=lambda pair: -pair[1])[: self._neighbours]


class Synced:
    """A ranker whose knowledge arrives late: up to `start` at once, from then on every so often.

    What it is asked about, the session, is always up to date: only what was learned waits, as a model that is trained
    elsewhere does.
    """

    def __init__(self, ranker: NextItemRanker, start: int, every_ms: int | None) -> None:
        """Wraps a ranker.

        Args:
            ranker: what learns.
            start: milliseconds since the epoch; the first sync of the test.
            every_ms: between two syncs; 0 for at once, None for never again.
        """
        self._ranker = ranker
        self._start = start
        self._every = every_ms
        self._next = start
        self._waiting: list[NextItemQuery] = []

    def score(self, query: NextItemQuery) -> np.ndarray:
        """float [known], by what was learned up to the last sync."""
        self._sync(query.ts)
        return self._ranker.score(query)

    def learn(self, seen: NextItemQuery) -> None:
        """Learns now, or keeps the event for the next sync."""
        self._sync(seen.ts)
        if seen.ts < self._start or self._every == 0:
            self._ranker.learn(seen)
        elif self._every is not None:
            self._waiting.append(seen)

    def _sync(self, now: int) -> None:
        if not self._every or now < self._next:
            return
        for event in self._waiting:
            self._ranker.learn(event)
        self._waiting.clear()
        self._next = now + self._every - (now - self._start) % self._every
