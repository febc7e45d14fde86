"""Made-up sites of many kinds, from which the starter learns what relations mean; nothing of any real log is in them.

Each site draws how its people behave: whether they come back to what they touched or never do, whether they walk down
the list, how much the place, the popularity, the category and the text of an item draw them, and which of these its
catalogue tells at all. A person chooses from a list with probabilities exp(utility) / sum exp(utility).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, ItemVector

SITES_FROM = 1_600_000_000_000  # milliseconds; one site's log ends before the next begins
_SITE_MS = 40 * 86_400_000
_USERS, _LISTS, _ITEMS, _CATEGORIES, _CLUSTERS = 14, 8, 240, 10, 24
_COMMON, _OWN = 0.35, 0.9  # parts of a text that all texts share, and that is its own; its cluster's is 1


class Habits(NamedTuple):
    """How people of one site behave; numbers are utilities."""

    returning: float  # for an item touched last, less for each touched since; below 0: they do not come back
    walking: float  # for the place below the last one touched
    place: float  # against a place, times log(1 + place)
    popularity: float
    category: float
    text: float
    browsing: float  # views before the choices, on average
    choices: int  # from a list
    listed_again: float  # share of a list that is from the list before
    told: tuple[bool, bool]  # whether the catalogue has categories, and texts


def draw_habits(rng: np.random.Generator) -> Habits:
    """A site's kind."""

    def one_of(*values: float) -> float:
        return float(rng.choice(values))

    return Habits(
        returning=one_of(-6, -2, 0, 0.7, 1.5, 2.5, 4),
        walking=one_of(0, 0, 0, 0.3, 0.8),
        place=one_of(0, 0.3, 0.6, 0.9),
        popularity=one_of(0, 0.4, 0.8),
        category=one_of(0, 0.7, 1.4),
        text=one_of(0, 1, 2),
        browsing=one_of(0, 1, 3),
        choices=int(rng.choice([1, 1, 5])),
        listed_again=one_of(0, 0.3, 0.8),
        told=(bool(rng.random() < 0.7), bool(rng.random() < 0.7)),
    )


class Site:
    """One site: its catalogue, and the log of its people."""

    def __init__(self, number: int, encoder: str, dim: int) -> None:
        """
        Args:
            number: of the site; seeds everything about it.
            encoder: what its texts' vectors are called after.
            dim: their width.
        """
        self.number, self.encoder = number, encoder
        self.rng = rng = np.random.default_rng(number)
        self.habits = draw_habits(rng)
        self.worth = rng.normal(size=_ITEMS)
        self.categories = rng.integers(0, _CATEGORIES, _ITEMS)
        self.clusters = (self.categories * 7 + rng.integers(0, 4, _ITEMS)) % _CLUSTERS
        centres, common = rng.normal(size=(_CLUSTERS, dim)), rng.normal(size=dim)
        texts = centres[self.clusters] + _COMMON * common + _OWN * rng.normal(size=(_ITEMS, dim))
        self.texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)

    def items(self) -> Iterator[Item]:
        """The catalogue."""
        with_category = self.habits.told[0]
        for item in range(_ITEMS):
            category = f"{self.number}/{self.categories[item]}" if with_category else None
            yield Item(item_id=self._id(item), category=category)

    def vectors(self) -> Iterator[ItemVector]:
        """Its encoded texts."""
        if self.habits.told[1]:
            for item, vector in enumerate(self.texts):
                yield ItemVector(
                    item_id=self._id(item), encoder=self.encoder, text_hash="0" * 16,
                    vector=vector.astype("<f2").tobytes(),
                )  # fmt: skip

    def records(self) -> list[CandidateList | Interaction]:
        """What its people were shown and did, by time."""
        made = [record for person in range(_USERS) for record in self._person(person)]
        return sorted(made, key=lambda record: record.ts or 0)

    def _person(self, person: int) -> Iterator[CandidateList | Interaction]:
        rng, habits, user = self.rng, self.habits, f"{self.number}/user-{person}"
        now = SITES_FROM + self.number * _SITE_MS + int(rng.integers(0, 86_400_000))
        taste = self._taste()
        touched: list[int] = []
        shown = np.zeros(0, np.int64)
        for number in range(_LISTS):
            now += int(np.exp(rng.uniform(8, 18)))  # 3 seconds to 18 hours
            drawn = 0.7 * taste + 0.7 * self._taste()
            shown = self._list(shown, drawn)
            items = [Candidate(item_id=self._id(item)) for item in shown.tolist()]
            request = f"{user}/{number}"
            yield CandidateList(request_id=request, user_id=user, items=items, ts=now)
            views = rng.poisson(habits.browsing)
            for step in range(views + habits.choices):
                now += int(np.exp(rng.uniform(7, 11)))  # 1 second to a minute
                action = "view" if step < views else "click"
                item = int(rng.choice(shown, p=self._chances(shown, drawn, touched)))
                yield Interaction(
                    user_id=user, item_id=self._id(item), action=action, ts=now, event_id=f"{request}/{step}",
                    request_id=request,
                )  # fmt: skip
                touched = [*(other for other in touched if other != item), item]

    def _taste(self) -> np.ndarray:
        """float64 [items]: what draws somebody to each, of categories and texts alike."""
        categories = self.rng.normal(size=_CATEGORIES)[self.categories]
        clusters = self.rng.normal(size=_CLUSTERS)[self.clusters]
        drawn: np.ndarray = self.habits.category * categories + 0.7 * self.habits.text * clusters
        return drawn

    def _list(self, before: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """int64 [C]: some of the list before and others, the better ones roughly first."""
        rng, size = self.rng, int(self.rng.integers(8, 41))
        kept = before[rng.random(len(before)) < self.habits.listed_again][:size]
        others = np.setdiff1d(np.arange(_ITEMS), kept)
        listed = np.concatenate([kept, rng.choice(others, size - len(kept), replace=False)]).astype(np.int64)
        key = self.habits.popularity * self.worth[listed] + 0.2 * drawn[listed] + 0.7 * rng.normal(size=size)
        return listed[np.argsort(-key)]

    def _chances(self, shown: np.ndarray, drawn: np.ndarray, touched: list[int]) -> np.ndarray:
        habits, places = self.habits, np.arange(len(shown))
        utility = habits.popularity * self.worth[shown] + drawn[shown] - habits.place * np.log1p(places)
        since = {item: rank for rank, item in enumerate(reversed(touched))}
        fading = np.array([0.75 ** since[item] if item in since else 0.0 for item in shown.tolist()])
        utility = utility + habits.returning * (np.ceil(fading) if habits.returning < 0 else fading)
        if touched and len(last := np.flatnonzero(shown == touched[-1])):
            utility = utility + habits.walking * np.isin(places - last[0], (1, 2)) / np.maximum(places - last[0], 1)
        weights = np.exp(utility - utility.max())
        chances: np.ndarray = weights / weights.sum()
        return chances

    def _id(self, item: int) -> str:
        return f"{self.number}/item-{item}"
