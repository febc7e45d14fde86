"""Lists for data sets that log what was chosen but not what was shown: sampled ones to learn from, recalled ones."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator
from random import Random

import numpy as np

from ranker.contracts.ids import hash_id
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import ItemTables
from ranker.state.row import EVENT, UserRow

_DECAY = 0.5  # of an earlier item's say, for each item since
_OWN = 0.1  # what an item of the user's own is worth, halved for each item since
_STEPS, _TWO_STEPS = 20, 0.1  # followers looked at of each item, and what two steps are worth
_LOOKED_AT = 8  # newest events that recall goes by


class CountRecall:
    """A recall stage out of a model's own counts: what follows the user's last items, their own items, what is popular.

    It knows nothing that the tables it is given do not hold, so it is as fresh, or as stale, as they are.
    """

    def __init__(self, size: int) -> None:
        """
        Args:
            size: items of a list at most.
        """
        self.size = size
        self._names: dict[int, str] = {}
        self._popular: list[int] = []
        self._asked = 0

    def know(self, item_id: str) -> None:
        """An item that somebody touched: it can be listed from now on."""
        self._names.setdefault(hash_id(item_id), item_id)

    def __call__(self, row: UserRow, tables: ItemTables, ts: int, request_id: str, user_id: str) -> CandidateList:
        """A user's list, best first, each item with its recall score."""
        scores: dict[int, float] = {}
        items: list[int] = np.frombuffer(row.events, EVENT)["item"][-_LOOKED_AT:].tolist()
        for ago, item in enumerate(reversed(items)):
            scores[item] = scores.get(item, 0.0) + _OWN * _DECAY**ago
            index = tables.catalog.index_of.get(item, 0)
            if not index or index >= len(tables.neighbours):
                continue
            for follower, strength in _followers(tables, index):
                scores[follower] = scores.get(follower, 0.0) + strength * _DECAY**ago
        for follower, strength in self._at_two_steps(tables, items):
            scores[follower] = scores.get(follower, 0.0) + strength
        for item in self._most_popular(tables):
            if len(scores) >= self.size:
                break
            scores.setdefault(item, 0.0)
        best = sorted((item for item in scores if item in self._names), key=lambda item: -scores[item])[: self.size]
        listed = [Candidate(item_id=self._names[item], score=scores[item]) for item in best]
        return CandidateList(request_id=request_id, user_id=user_id, items=listed, ts=ts)

    def _at_two_steps(self, tables: ItemTables, items: list[int]) -> Iterator[tuple[int, float]]:
        """What follows what follows the newest item."""
        index = tables.catalog.index_of.get(items[-1], 0) if items else 0
        for between, first in _followers(tables, index)[:_STEPS]:
            for follower, second in _followers(tables, tables.catalog.index_of.get(between, 0))[:_STEPS]:
                yield follower, _TWO_STEPS * first * second

    def _most_popular(self, tables: ItemTables) -> list[int]:
        if self._asked % 200 == 0:
            touched = tables.statistics[:, -1]
            best = np.argsort(-touched, kind="stable")[: self.size]
            self._popular = tables.catalog.hashes[best[touched[best] > 0]].tolist()
        self._asked += 1
        return self._popular


def _followers(tables: ItemTables, index: int) -> list[tuple[int, float]]:
    """Hashes and strengths of what follows the item at a catalogue index, strongest first."""
    if not index or index >= len(tables.neighbours):
        return []
    pairs = zip(tables.neighbours[index].tolist(), tables.strengths[index].tolist(), strict=True)
    return [(follower, strength) for follower, strength in pairs if strength]


def with_sampled_lists(
    records: Iterable[Interaction | CandidateList | User | Item], schema: FeatureSchema, size: int = 50, seed: int = 0
) -> Iterator[Interaction | CandidateList | User | Item]:
    """The log, with a list before each positive event: its item among others, in an order that says nothing.

    Half of the others are items of random earlier events, so drawn by how popular they are, half any known item: one
    that was published or touched by then.

    Args:
        records: in order of time, without lists.
        schema: says which actions are positive.
        size: items a list.
        seed: of the draws.
    """
    random = Random(seed)
    positives = {action.name for action in schema.positives}
    touched: list[str] = []
    known: list[str] = []
    seen: set[str] = set()
    published: list[tuple[int, str]] = []
    for record in records:
        if isinstance(record, Item) and record.published_at is not None:
            heapq.heappush(published, (record.published_at, record.item_id))
        if isinstance(record, Interaction) and record.item_id is not None:
            while published and published[0][0] <= (record.ts or 0):
                _know(heapq.heappop(published)[1], known, seen)
            _know(record.item_id, known, seen)
            if record.action in positives and len(touched) > size:
                drawn = (random.choice(touched if at % 2 else known) for at in range(2 * size))
                yield _list_of(record, record.item_id, list(dict.fromkeys(drawn))[:size], random)
            touched.append(sys.intern(record.item_id))  # one text an item, however many events
        yield record


def _know(item_id: str, known: list[str], seen: set[str]) -> None:
    if item_id not in seen:
        seen.add(item_id)
        known.append(item_id)


def _list_of(event: Interaction, chosen: str, others: list[str], random: Random) -> CandidateList:
    """The event's item somewhere in the list, at the event's time and applied before it."""
    assert event.ts is not None
    items = [item for item in others if item != chosen]
    items.insert(random.randrange(len(items) + 1), chosen)
    return CandidateList(
        request_id=f"sampled-{event.event_id}",
        user_id=event.user_id,
        items=[Candidate(item_id=item) for item in items],
        ts=event.ts,
    )
