"""Tastes: they are those of people whom the model does not learn from, and say what these people like."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from liverank.simulate.tastes import left_out, likes_of, tastes
from ranker.contracts.records import Interaction

FILMS = [f"western-{number}" for number in range(30)] + [f"musical-{number}" for number in range(30)]


def a_log(people: int = 60) -> list[Interaction]:
    """People 0, 2, 4 … like westerns, the others musicals, a few of them; the first films of each kind most."""
    random = Random(0)
    log = []
    for person in range(people):
        kind = "western" if person % 2 == 0 else "musical"
        count = 20 if person < 6 else 8
        for number in sorted({min(int(random.expovariate(0.1)), 29) for _ in range(3 * count)})[:count]:
            log.append(rating(person, f"{kind}-{number}", "like"))
        log.append(rating(person, random.choice(FILMS), "dislike"))
    return log


def rating(person: int, film: str, action: str) -> Interaction:
    return Interaction(user_id=f"p{person:02}", item_id=film, action=action, event_id=f"{person}-{film}", ts=0)


def test_a_tenth_is_left_out_those_with_the_most_likes() -> None:
    """Of 60 people the six who liked most; of very few people at least one, and of none nobody."""
    assert sorted(left_out(a_log())) == [f"p{person:02}" for person in range(6)]
    assert len(left_out(a_log(7))) == 1
    assert left_out([]) == []


def test_only_likes_count() -> None:
    """A dislike is no like."""
    assert {like.action for like in likes_of(a_log())} == {"like"}


def test_people_are_drawn_to_their_kind_of_film() -> None:
    """A lover of westerns is drawn to westerns, also to those never liked; utilities have mean 0 and deviation 2."""
    log = a_log()
    for person, taste in zip(range(6), tastes(log, [f"p{person:02}" for person in range(6)], FILMS), strict=True):
        values = np.array([taste.utilities[film] for film in FILMS])
        westerns, musicals = values[:30].mean(), values[30:].mean()
        assert (westerns > musicals + 1) == (person % 2 == 0)
        assert values.mean() == pytest.approx(0, abs=1e-9)
        assert values.std() == pytest.approx(2)
        kind = "western" if person % 2 == 0 else "musical"
        assert all(film.startswith(kind) for film in taste.favourites(3))


def test_films_that_nobody_liked_are_no_trouble() -> None:
    """A film without a like has a utility too, and one that is not listed has none."""
    [taste] = tastes(a_log(), ["p00"], [*FILMS[:10], "unknown"])
    assert set(taste.utilities) == {*FILMS[:10], "unknown"}
    assert all(np.isfinite(list(taste.utilities.values())))
