"""A log's records as they arrive: in order of time, and each user's at times of their own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from online_learning.data.dataset import arrivals
from ranker.contracts.records import Interaction


def logged(times: list[tuple[int, int]]) -> list[Interaction]:
    """An event of a user at each of the times (user, milliseconds), the earliest first."""
    ordered = sorted(times, key=lambda pair: pair[1])
    return [
        Interaction(user_id=f"u{user}", item_id="i", action="view", ts=ts, event_id=f"{number}")
        for number, (user, ts) in enumerate(ordered)
    ]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20)), max_size=60))
def test_what_is_forgotten_of_users_changes_nothing(times: list[tuple[int, int]]) -> None:
    """Remembering one user's time or everybody's: the same records at the same times, in order, no user's twice."""
    found = list(arrivals(logged(times), users_at_a_time=1))
    assert found == list(arrivals(logged(times)))
    assert len(found) == len(times)
    assert all(one.ts <= other.ts for one, other in pairwise(found))
    assert len({(one.user_id, one.ts) for one in found}) == len(found)
