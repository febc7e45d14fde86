"""Tastes for the simulated users: those of real people, which the first model never sees.

A tenth of MovieLens' people is left out of training, those who liked the most films, for of them most is known. What
they liked says little of the films that they never saw, so a taste is read off a factorisation of everybody's likes:
how much more a person is drawn to a film than its popularity and the person's generosity explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from online_learning.data.dataset import LogRecord
from ranker.contracts.records import Interaction

_SHARE = 10  # one person in so many is left out
_FACTORS = 12
_STRENGTH = 2.0  # deviation of utilities: e^2 ~ 7 to 1 for a film one deviation above another
_RARE = 0.02  # keeps films that hardly anybody liked from outweighing the others


class Taste(Struct, frozen=True):
    """What a user likes; no record carries it."""

    utilities: dict[str, float]  # film -> how much the user is drawn to it: mean 0, deviation `_STRENGTH`

    def favourites(self, count: int) -> list[str]:
        """The films that the user is drawn to most."""
        return sorted(self.utilities, key=lambda film: -self.utilities[film])[:count]


def left_out(records: Iterable[LogRecord]) -> list[str]:
    """The people whose tastes the simulated users have: those with the most likes."""
    likes = Counter(like.user_id for like in likes_of(records))
    ordered = sorted(likes, key=lambda person: (-likes[person], person))
    return ordered[: max(1, len(ordered) // _SHARE)]


def tastes(records: Sequence[LogRecord], people: Sequence[str], films: Sequence[str]) -> list[Taste]:
    """The tastes of these people for these films."""
    likes = likes_of(records)
    everybody = {person: row for row, person in enumerate(sorted({like.user_id for like in likes}))}
    column = {film: number for number, film in enumerate(films)}
    liked = np.zeros((len(everybody), len(films)))
    for like in likes:
        if like.item_id in column:
            liked[everybody[like.user_id], column[like.item_id]] = 1
    popularity = liked.mean(axis=0)
    drawn = (liked - popularity) / np.sqrt(popularity * (1 - popularity) + _RARE)
    drawn -= drawn.mean(axis=1, keepdims=True)
    left, weights, right = np.linalg.svd(drawn, full_matrices=False)
    rows = [everybody[person] for person in people]
    found = (left[rows, :_FACTORS] * weights[:_FACTORS]) @ right[:_FACTORS]
    found -= found.mean(axis=1, keepdims=True)
    found *= _STRENGTH / np.maximum(found.std(axis=1, keepdims=True), 1e-9)
    return [Taste(dict(zip(films, line.tolist(), strict=True))) for line in found]


def likes_of(records: Iterable[LogRecord]) -> list[Interaction]:
    """What people liked, in the order of time."""
    return [record for record in records if isinstance(record, Interaction) and record.action == "like"]
