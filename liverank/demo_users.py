"""The demo's people: simulated users who click by a taste that no record holds.

A recall stage gives each a list of films in the order of popularity. The user picks the next film among those of the
list not clicked yet, with probabilities exp(utility) / sum exp(utility). A utility is a weight on each of the film's
genres, a liking for a decade, and a whim about the single film. It knows neither the film's place in the list nor how
popular it is: nobody clicks what stands at the top because it stands there. So the order shown and liverank's order can
be compared on the same clicks, which would be unfair to the one that was not shown if places drew clicks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from msgspec import Struct

from ranker.records import Candidate, CandidateList, Interaction, Item

LIST_LENGTH = 40
CLICKS_A_LIST = 6
RECALLED_FROM = 500  # films, the most popular ones

_LIKED, _LIKED_DECADE, _DISPOSITION, _WHIM = 3.0, 1.0, 0.3, 0.5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Film(NamedTuple):
    """What a simulated user sees of a film."""

    item_id: str
    title: str
    genres: tuple[str, ...]
    decade: int | None


class Taste(Struct, frozen=True):
    """What a user likes; no record carries it."""

    genres: dict[str, float]
    decade: int | None
    whims: dict[str, float]
    liked: tuple[str, ...]  # the genres that weigh most, to tell the audience

    def utility(self, film: Film) -> float:
        """How much the user is drawn to a film."""
        weights = [self.genres.get(genre, 0.0) for genre in film.genres]
        decade = _LIKED_DECADE if self.decade is not None and film.decade == self.decade else 0.0
        return sum(weights) / math.sqrt(max(len(weights), 1)) + decade + self.whims.get(film.item_id, 0.0)


class Recall:
    """The recall stage: draws from the most popular films, and orders what it drew by popularity."""

    def __init__(self, films: Iterable[Film], popularity: Counter[str]) -> None:
        ordered = sorted(films, key=lambda film: (-popularity[film.item_id], film.item_id))
        self.films = {film.item_id: film for film in ordered[:RECALLED_FROM]}
        self.length = min(LIST_LENGTH, len(self.films))

    def draw(self, random: Random, without: set[str]) -> list[str]:
        """A list of films that the user has not clicked, the most popular first."""
        left = [item_id for item_id in self.films if item_id not in without]
        drawn = sorted(random.sample(range(len(left)), min(self.length, len(left))))
        return [left[place] for place in drawn]


class SimulatedUser:
    """One person, the same for the same seed: now a list from the recall stage, now a click."""

    def __init__(self, user_id: str, recall: Recall, seed: int) -> None:
        self.user_id = user_id
        self._recall, self._random = recall, Random(seed)
        self.taste = draw_taste(list(recall.films.values()), self._random)
        self.request_id = ""
        self.shown: list[str] = []
        self.clicked: list[str] = []  # of the current list, in order
        self._seen: set[str] = set()
        self._lists = 0

    def next_record(self, now_ms: int) -> CandidateList | Interaction:
        """What happens next: a new list at first and after `CLICKS_A_LIST` clicks, a click otherwise."""
        left = [item_id for item_id in self.shown if item_id not in self.clicked]
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
            items=[Candidate(item_id=item_id) for item_id in self.shown],
            ts=now_ms,
        )

    def _choose(self, left: Sequence[str]) -> str:
        weights = [math.exp(self.taste.utility(self._recall.films[item_id])) for item_id in left]
        return self._random.choices(left, weights)[0]


def draw_taste(films: Sequence[Film], random: Random) -> Taste:
    """A taste: the genres of two films drawn at random, so that genres which go together are liked together."""
    favourites = random.sample(films, min(2, len(films)))
    liked = {genre for film in favourites for genre in film.genres}
    known = sorted({genre for film in films for genre in film.genres})
    return Taste(
        genres={genre: random.gauss(_LIKED if genre in liked else 0.0, _DISPOSITION) for genre in known},
        decade=favourites[0].decade if favourites else None,
        whims={film.item_id: random.gauss(0.0, _WHIM) for film in films},
        liked=tuple(sorted(liked)),
    )


def film_of(item: Item) -> Film:
    """A film as its viewers know it."""
    genres = tuple(genre for genre in item.tags or () if genre != "unknown")
    decade = None
    if item.published_at is not None:
        decade = (_EPOCH + timedelta(milliseconds=item.published_at)).year // 10 * 10
    return Film(item.item_id, item.title or item.item_id, genres, decade)


def reciprocal_rank(chosen: str, order: Iterable[str], clicked: Sequence[str]) -> float:
    """1 / the place of the chosen item among those of an order that were not clicked before; 0 where it is not there.

    Leaving the clicked ones out of both orders keeps the comparison fair: neither is blamed for having them on top.
    """
    left = [item_id for item_id in order if item_id not in clicked]
    return 1 / (left.index(chosen) + 1) if chosen in left else 0.0
