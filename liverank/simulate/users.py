"""The demo's people: simulated users who click by a taste that no record holds.

A recall stage gives each a list of films in the order of popularity. The user picks the next film among those of the
list not clicked yet, with probabilities exp(utility) / sum exp(utility), the utilities being the user's taste
(`liverank.simulate.tastes`). A film's place in the list plays no part: nobody clicks what stands at the top because it
stands there. So two orders can be compared on the same clicks, which would be unfair to the one that was not looked at
if places drew clicks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from liverank.simulate.tastes import Taste
from ranker.contracts.records import Candidate, CandidateList, Interaction

LIST_LENGTH = 40
CLICKS_A_LIST = 6
RECALLED_FROM = 500  # films, the most popular ones


class PopularityRecall:
    """The recall stage: draws from the most popular films, and orders what it drew by popularity."""

    def __init__(self, popularity: Counter[str], length: int = LIST_LENGTH) -> None:
        ordered = sorted(popularity, key=lambda film: (-popularity[film], film))
        self.films = ordered[:RECALLED_FROM]
        self.length = min(length, len(self.films))

    def draw(self, random: Random, without: set[str]) -> list[str]:
        """A list of films that the user has not clicked, the most popular first."""
        left = [film for film in self.films if film not in without]
        drawn = sorted(random.sample(range(len(left)), min(self.length, len(left))))
        return [left[place] for place in drawn]


class SimulatedUser:
    """One person, who does the same again with the same seed: now a list from the recall stage, now a click."""

    def __init__(self, user_id: str, taste: Taste, recall: PopularityRecall, seed: int) -> None:
        self.user_id, self.taste = user_id, taste
        self._recall, self._random = recall, Random(seed)
        self.request_id = ""
        self.shown: list[str] = []
        self.clicked: list[str] = []  # of the current list, in order
        self._seen: set[str] = set()
        self._lists = 0

    def next_record(self, now_ms: int) -> CandidateList | Interaction:
        """What happens next: a new list at first and after `CLICKS_A_LIST` clicks, a click otherwise."""
        left = [film for film in self.shown if film not in self.clicked]
        if len(self.clicked) >= CLICKS_A_LIST or len(left) < 2:
            return self._ask(now_ms)
        chosen = self._choose(left)
        click = Interaction(
            user_id=self.user_id,
            item_id=chosen,
            action="click",
            event_id=f"{self.request_id}-{len(self.clicked)}",
            ts=now_ms,
            request_id=self.request_id,
        )
        self.clicked.append(chosen)
        self._seen.add(chosen)
        return click

    def _ask(self, now_ms: int) -> CandidateList:
        if len(self._recall.films) - len(self._seen) < self._recall.length:
            self._seen.clear()  # all was clicked: films may come again
        self._lists += 1
        self.request_id, self.clicked = f"{self.user_id}-{self._lists}", []
        self.shown = self._recall.draw(self._random, self._seen)
        return CandidateList(
            request_id=self.request_id,
            user_id=self.user_id,
            items=[Candidate(item_id=film) for film in self.shown],
            ts=now_ms,
        )

    def _choose(self, left: Sequence[str]) -> str:
        weights = [math.exp(self.taste.utilities[film]) for film in left]
        return self._random.choices(left, weights)[0]


def reciprocal_rank(chosen: str, order: Iterable[str], clicked: Sequence[str]) -> float:
    """1 / the place of the chosen item among those of an order that were not clicked before; 0 where it is not there.

    Leaving the clicked ones out of both orders keeps the comparison fair: neither is blamed for having them on top.
    """
    left = [item_id for item_id in order if item_id not in clicked]
    return 1 / (left.index(chosen) + 1) if chosen in left else 0.0
