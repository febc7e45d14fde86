"""What the demo's first model learns from: MovieLens' likes as clicks, without what its log tells by accident."""

from __future__ import annotations

from collections import Counter
from random import Random

from liverank.demo.first_model import LIKES_A_PERSON, clicked_lists
from online_learning.data.dataset import LogRecord
from ranker.contracts.records import CandidateList, Interaction, Item

NOW_MS = 1_700_000_000_000
NOBODY: frozenset[str] = frozenset()


def a_log(people: int = 30, likes: int = 40, films: int = 200) -> list[LogRecord]:
    """People who like films in the order of their numbers, a second apart, and dislike one; film 0 is liked by all."""
    random = Random(0)
    log: list[Interaction] = []
    for person in range(people):
        liked = [0, *sorted(random.sample(range(1, films), likes - 1))]
        for place, film in enumerate(liked):
            log.append(rating(person, film, "like", 1000 * (person + people * place)))
        log.append(rating(person, films, "dislike", 1000 * people * likes))
    return [Item(item_id=str(film)) for film in range(films + 1)] + sorted(log, key=lambda record: record.ts or 0)


def rating(person: int, film: int, action: str, ts: int) -> Interaction:
    return Interaction(
        user_id=f"p{person}", item_id=str(film), action=action, event_id=f"p{person}-{film}", ts=ts, value=5.0
    )


def test_a_click_on_a_list_for_each_like() -> None:
    """Each person's first likes in time become clicks on the list just before, at times that end now."""
    log = a_log()
    films, rest = log[:201], list(clicked_lists(log, NOBODY, Random(0), NOW_MS))
    assert rest[:201] == films
    lists, clicks = rest[201::2], rest[202::2]
    assert Counter(click.user_id for click in clicks if isinstance(click, Interaction)) == {
        f"p{person}": LIKES_A_PERSON for person in range(30)
    }
    for shown, click in zip(lists, clicks, strict=True):
        assert isinstance(shown, CandidateList)
        assert isinstance(click, Interaction)
        assert (click.user_id, click.request_id, click.action) == (shown.user_id, shown.request_id, "click")
        assert click.value is None
        assert click.item_id in {candidate.item_id for candidate in shown.items}
    times = [click.ts for click in clicks if isinstance(click, Interaction) and click.ts is not None]
    assert times == sorted(times)
    assert times[-1] <= NOW_MS
    assert len({click.event_id for click in clicks if isinstance(click, Interaction)}) == len(clicks)


def test_lists_hold_one_film_that_the_person_liked() -> None:
    """The other films of a list are none of that person's likes, also not of later ones."""
    log = a_log()
    liked = {(like.user_id, like.item_id) for like in log if isinstance(like, Interaction) and like.action == "like"}
    for record in clicked_lists(log, NOBODY, Random(0), NOW_MS):
        if isinstance(record, CandidateList):
            assert sum((record.user_id, candidate.item_id) in liked for candidate in record.items) == 1


def test_the_order_of_the_log_is_gone() -> None:
    """The log's people rate by ascending number; their clicks do not."""
    clicks = [record for record in clicked_lists(a_log(), NOBODY, Random(0), NOW_MS) if isinstance(record, Interaction)]
    ascending = [
        int(later.item_id) > int(earlier.item_id)
        for earlier, later in zip(clicks, clicks[30:], strict=False)
        if earlier.user_id == later.user_id
    ]
    assert 0.4 < sum(ascending) / len(ascending) < 0.6


def test_the_same_seed_gives_the_same_log() -> None:
    """Shuffles and draws come from the given random alone."""
    log = a_log()
    assert list(clicked_lists(log, NOBODY, Random(1), NOW_MS)) == list(clicked_lists(log, NOBODY, Random(1), NOW_MS))
    assert list(clicked_lists(log, NOBODY, Random(1), NOW_MS)) != list(clicked_lists(log, NOBODY, Random(2), NOW_MS))


def test_people_left_out_leave_no_trace() -> None:
    """Neither their clicks nor their lists come, and the lists of others do not depend on what they liked."""
    log, without = a_log(), frozenset({"p3", "p7"})
    made = list(clicked_lists(log, without, Random(0), NOW_MS))
    assert not without & {record.user_id for record in made if not isinstance(record, Item)}
    others = [record for record in log if isinstance(record, Item) or record.user_id not in without]
    assert made == list(clicked_lists(others, NOBODY, Random(0), NOW_MS))
