"""Which ranking covers which event: by `applied`, for every user and topic of its own."""

from __future__ import annotations

from liverank.measure.deliveries import Arrival, SentInput, covered_at, repeated


def arrival(at: float, revision: int, user: str = "u", **applied: int) -> Arrival:
    """A ranking that knows of these offsets."""
    return Arrival(at, user, revision, f"{user}:{revision}", applied, "v1")


def test_an_event_is_covered_by_the_first_ranking_that_knows_its_offset() -> None:
    """Two events may share a ranking; a later one that knows less, as after a fault, takes nothing back."""
    events = [SentInput("u", "clicks", 0.0, 3), SentInput("u", "clicks", 0.1, 4), SentInput("u", "clicks", 0.2, 5)]
    came = [arrival(1.0, 1, clicks=2), arrival(2.0, 3, clicks=4), arrival(3.0, 3, clicks=2), arrival(4.0, 4, clicks=5)]
    assert covered_at(events, came) == [2.0, 2.0, 4.0]


def test_topics_and_users_do_not_stand_in_for_each_other() -> None:
    """Offsets of another topic, or of another user's ranking, say nothing about an event."""
    events = [SentInput("u", "clicks", 0.0, 3), SentInput("v", "clicks", 0.0, 3), SentInput("w", "views", 0.0, 0)]
    came = [arrival(1.0, 1, views=9), arrival(2.0, 1, user="v", clicks=3)]
    assert covered_at(events, came) == [None, 2.0, None]


def test_what_the_broker_has_not_taken_is_missing() -> None:
    """Without an offset no ranking can be said to cover it."""
    assert covered_at([SentInput("u", "clicks", 0.0)], [arrival(1.0, 1, clicks=9)]) == [None]


def test_a_ranking_is_repeated_by_its_id_or_by_its_lists_revision() -> None:
    """The same revision by two versions is one too many; the same revision of two users, or of two lists, is not."""
    first, other = arrival(1.0, 1, clicks=1), arrival(1.0, 1, user="v", clicks=1)
    assert repeated([first, other, arrival(2.0, 2, clicks=2)]) == 0
    assert repeated([first, first]) == 1
    assert repeated([first, Arrival(2.0, "u", 1, "by another version", {"clicks": 1}, "v2")]) == 1
    assert repeated([first, Arrival(2.0, "u", 2, first.ranking_id, {"clicks": 2}, "v1")]) == 1
    assert repeated([first, Arrival(2.0, "u", 1, "of the list beside it", {"clicks": 1}, "v1", "r2")]) == 0
