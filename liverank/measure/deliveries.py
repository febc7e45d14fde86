"""What was sent and what came back: which ranking covers which event, which events none covers, which came twice."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from msgspec import Struct


class SentInput(Struct):
    """An input of a user who looks at a list. `offset` is where the broker put it; None while that is not known."""

    user_id: str
    topic: str
    at: float  # when it was handed to the producer, in seconds of one clock
    offset: int | None = None


class Arrival(Struct, frozen=True):
    """A ranking, as far as it matters here: fields of `ranker.contracts.records.Ranking`, and when it was consumed."""

    at: float  # in seconds of the same clock
    user_id: str
    revision: int
    ranking_id: str
    applied: dict[str, int]
    model: str
    request_id: str = ""


def covered_at(events: Sequence[SentInput], arrivals: Iterable[Arrival]) -> list[float | None]:
    """When the first ranking came that knows of each event, by its `applied`; None where none does, or it was not sent.

    Args:
        events: in any order.
        arrivals: in the order in which they came.
    """
    of_user: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        of_user.setdefault(arrival.user_id, []).append(arrival)
    known: dict[tuple[str, str], list[int]] = {}
    found: list[float | None] = []
    for event in events:
        came = of_user.get(event.user_id, [])
        name = event.user_id, event.topic
        if name not in known:  # the highest offset that the user's rankings so far knew of
            known[name] = list(accumulate((arrival.applied.get(event.topic, -1) for arrival in came), max))
        place = len(came) if event.offset is None else bisect_left(known[name], event.offset)
        found.append(came[place].at if place < len(came) else None)
    return found


def repeated(arrivals: Iterable[Arrival]) -> int:
    """Rankings that were sent before: of an id, or of a user's list and a revision, that came already."""
    ids: set[str] = set()
    revisions: set[tuple[str, str, int]] = set()
    count = 0
    for arrival in arrivals:
        revision = arrival.user_id, arrival.request_id, arrival.revision
        count += arrival.ranking_id in ids or revision in revisions
        ids.add(arrival.ranking_id)
        revisions.add(revision)
    return count
