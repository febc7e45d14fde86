"""The demo's simulated users: who they are is fixed by a seed, and only their clicks tell of it."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from liverank.simulate.tastes import Taste
from liverank.simulate.users import CLICKS_A_LIST, LIST_LENGTH, PopularityRecall, SimulatedUser, reciprocal_rank
from ranker.contracts.records import CandidateList, Interaction

POPULARITY = Counter({f"film-{number}": 1000 - number for number in range(120)})


def a_taste(seed: int) -> Taste:
    random = Random(seed)
    return Taste({film: random.gauss(0, 2) for film in POPULARITY})


def a_user(seed: int, taste: int | None = None) -> SimulatedUser:
    return SimulatedUser("ada", a_taste(seed if taste is None else taste), PopularityRecall(POPULARITY), seed)


def records_of(user: SimulatedUser, count: int) -> list[CandidateList | Interaction]:
    return [user.next_record(now_ms) for now_ms in range(count)]


def test_the_same_seed_is_the_same_person() -> None:
    """Lists and clicks repeat with taste and seed, and differ where one of them does."""
    done = records_of(a_user(1), 50)
    assert records_of(a_user(1), 50) == done
    assert records_of(a_user(2, taste=1), 50) != done
    assert records_of(a_user(1, taste=2), 50) != done


def test_no_record_carries_the_taste() -> None:
    """Records hold ids and times alone; the taste moves which film is clicked and nothing else."""
    for record in records_of(a_user(3), 30):
        document = msgspec.to_builtins(record)
        assert set(document) <= {"request_id", "user_id", "items", "ts", "item_id", "action", "event_id"}
        assert all(set(candidate) == {"item_id"} for candidate in document.get("items", []))
    asked, other = (a_user(3, taste).next_record(0) for taste in (1, 2))
    assert asked == other


def test_lists_and_clicks_alternate() -> None:
    """A list by popularity, then clicks on films of it, none twice, then a list without what was clicked."""
    user = a_user(4)
    seen: set[str] = set()
    for _ in range(5):
        asked, *clicks = records_of(user, 1 + CLICKS_A_LIST)
        assert isinstance(asked, CandidateList)
        shown = [candidate.item_id for candidate in asked.items]
        assert len(shown) == LIST_LENGTH
        assert shown == sorted(shown, key=lambda film: -POPULARITY[film])
        assert not seen & set(shown)
        clicked = [click.item_id for click in clicks if isinstance(click, Interaction)]
        assert len(set(clicked)) == CLICKS_A_LIST
        assert set(clicked) <= set(shown)
        assert {click.request_id for click in clicks} == {asked.request_id}
        seen |= set(clicked)


def test_clicks_follow_the_taste_and_not_the_place() -> None:
    """Clicked films have a higher utility than those shown beside them; their mean place is that of chance."""
    chosen, average, places = 0.0, 0.0, 0
    for seed in range(300):
        user = a_user(seed)
        _, click = records_of(user, 2)
        assert isinstance(click, Interaction)
        chosen += user.taste.utilities[click.item_id] / 300
        average += sum(user.taste.utilities[film] for film in user.shown) / LIST_LENGTH / 300
        places += user.shown.index(click.item_id)
    assert chosen > average + 2
    assert places / 300 == pytest.approx((LIST_LENGTH - 1) / 2, abs=3)


def test_a_few_films_are_enough() -> None:
    """Where fewer films exist than a list is long, lists are shorter, and films come again once all were clicked."""
    few = Counter(dict(POPULARITY.most_common(9)))
    user = SimulatedUser("ada", a_taste(5), PopularityRecall(few), seed=5)
    lists = [record for record in records_of(user, 60) if isinstance(record, CandidateList)]
    assert {len(record.items) for record in lists} == {9}
    assert len(lists) < 20


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
