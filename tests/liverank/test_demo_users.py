"""The demo's simulated users: who they are is fixed by a seed, and only their clicks tell of it."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import msgspec
import pytest

from liverank.demo_users import (
    CLICKS_A_LIST,
    LIST_LENGTH,
    Film,
    Recall,
    SimulatedUser,
    draw_taste,
    film_of,
    reciprocal_rank,
)
from ranker.records import CandidateList, Interaction, Item

GENRES = ("Action", "Comedy", "Drama", "Horror", "Western")
FILMS = [
    Film(f"film-{number}", f"Film {number}", (GENRES[number % 5], GENRES[number % 3]), 1930 + number % 7 * 10)
    for number in range(120)
]
POPULARITY = Counter({film.item_id: 1000 - number for number, film in enumerate(FILMS)})


@pytest.fixture
def recall() -> Recall:
    return Recall(FILMS, POPULARITY)


def records_of(user: SimulatedUser, count: int) -> list[CandidateList | Interaction]:
    return [user.next_record(now_ms) for now_ms in range(count)]


def test_the_same_seed_is_the_same_person(recall: Recall) -> None:
    """Taste, lists and clicks repeat with the seed, whatever the user is called, and differ with another."""
    ada, again, eve = (SimulatedUser("u", recall, seed) for seed in (1, 1, 2))
    assert ada.taste == again.taste
    assert ada.taste != eve.taste
    assert records_of(ada, 50) == records_of(again, 50)
    assert records_of(ada, 50) != records_of(eve, 50)


def test_no_record_carries_the_taste(recall: Recall) -> None:
    """Records hold ids and times alone: no genre, decade, utility or place that a model could read the taste from."""
    for record in records_of(SimulatedUser("ada", recall, seed=3), 30):
        document = msgspec.to_builtins(record)
        assert set(document) <= {"request_id", "user_id", "items", "ts", "item_id", "action", "event_id"}
        assert all(set(candidate) == {"item_id"} for candidate in document.get("items", []))
        assert not re.search("|".join(GENRES), msgspec.json.encode(record).decode())


def test_lists_and_clicks_alternate(recall: Recall) -> None:
    """A list by popularity, then clicks on films of it, none twice, then a list without what was clicked."""
    user = SimulatedUser("ada", recall, seed=4)
    seen: set[str] = set()
    for _ in range(5):
        asked, *clicks = records_of(user, 1 + CLICKS_A_LIST)
        assert isinstance(asked, CandidateList)
        shown = [candidate.item_id for candidate in asked.items]
        assert len(shown) == LIST_LENGTH
        assert shown == sorted(shown, key=lambda item_id: -POPULARITY[item_id])
        assert not seen & set(shown)
        clicked = [click.item_id for click in clicks if isinstance(click, Interaction)]
        assert len(set(clicked)) == CLICKS_A_LIST
        assert set(clicked) <= set(shown)
        assert {click.request_id for click in clicks} == {asked.request_id}
        seen |= set(clicked)


def test_clicks_follow_the_taste_and_not_the_place(recall: Recall) -> None:
    """Clicked films have a higher utility than those shown beside them; their mean place is that of chance."""
    chosen, average, places = [], [], []
    for seed in range(150):
        user = SimulatedUser("ada", recall, seed)
        _, click = records_of(user, 2)
        assert isinstance(click, Interaction)
        utilities = [user.taste.utility(recall.films[item_id]) for item_id in user.shown]
        chosen.append(user.taste.utility(recall.films[click.item_id]))
        average.append(sum(utilities) / len(utilities))
        places.append(user.shown.index(click.item_id))
    assert sum(chosen) / 150 > sum(average) / 150 + 1
    assert sum(places) / 150 == pytest.approx((LIST_LENGTH - 1) / 2, abs=3)


def test_a_few_films_are_enough() -> None:
    """Where fewer films exist than a list is long, lists are shorter, and films come again once all were clicked."""
    user = SimulatedUser("ada", Recall(FILMS[:9], POPULARITY), seed=5)
    records = records_of(user, 60)
    lists = [record for record in records if isinstance(record, CandidateList)]
    assert {len(record.items) for record in lists} == {9}
    assert len(lists) < 20


def test_a_taste_prefers_what_it_likes() -> None:
    """The genres of the favourites weigh most; a film of none of them in another decade is worth less."""
    taste = draw_taste(FILMS, Random(0))
    liked = Film("a", "a", taste.liked, taste.decade)
    other = Film("b", "b", tuple(genre for genre in GENRES if genre not in taste.liked)[:1], 1890)
    assert taste.utility(liked) > taste.utility(other) + 2


@pytest.mark.parametrize(
    ("published_at", "decade"), [(None, None), (31_536_000_000, 1970), (-1_262_304_000_000, 1930), (0, 1970)]
)
def test_a_film_is_of_its_decade(published_at: int | None, decade: int | None) -> None:
    """Also one of 1 January, of before 1970, and one whose year nobody knows; the genre `unknown` is none."""
    film = film_of(Item(item_id="7", tags=["unknown", "Drama"], published_at=published_at))
    assert film == Film("7", "7", ("Drama",), decade)


@pytest.mark.parametrize(
    ("order", "clicked", "expected"),
    [
        ("abcd", "", 1 / 3),
        ("abcd", "a", 1 / 2),
        ("abcd", "ab", 1.0),
        ("abcd", "d", 1 / 3),
        ("abd", "a", 0.0),
        ("cab", "", 1.0),
    ],
)
def test_reciprocal_ranks_leave_out_what_was_clicked(order: str, clicked: str, expected: float) -> None:
    """The rank of `c` counts the films that could still be clicked; a film that is not in the order counts 0."""
    assert reciprocal_rank("c", order, clicked) == pytest.approx(expected)
