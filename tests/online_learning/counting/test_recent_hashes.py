"""Numbers that are known again: the newest ones for certain, and never more than twice as many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.counting.recent_hashes import RecentHashes

HASHES = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 20)


@given(st.lists(HASHES, max_size=80), st.integers(0, 12))
def test_the_newest_are_known_and_no_more_than_twice_the_limit(numbers: list[int], limit: int) -> None:
    """Whatever comes, in whatever order: the last `limit` different ones are in it, each told as new when it was."""
    recent, came = RecentHashes(limit), list[int]()
    for number in numbers:
        known = number in recent
        assert recent.add(number) is not known
        if not known:
            came.append(number)
        assert len(recent) <= 2 * limit
        assert all(one in recent for one in came[len(came) - min(limit, len(came)) :])
    assert recent.state().tolist() == came[len(came) - len(recent) :]


def test_numbers_that_meet_in_a_table_are_told_apart() -> None:
    """A full table of neighbours and far ones: each is found, none that was not put in."""
    recent = RecentHashes(512)
    inside = [*range(256), *(number << 40 for number in range(1, 257))]
    assert all(recent.add(number) for number in inside)
    assert all(number in recent for number in inside)
    assert not any(number in recent for number in range(256, 2000))


def test_it_goes_on_from_what_was_written_down() -> None:
    """As it was, and forgets the oldest first from there on."""
    recent, again = RecentHashes(3), RecentHashes(3)
    for number in range(5):
        recent.add(number)
    again.restore(recent.state().tolist())
    assert again.state().tolist() == recent.state().tolist() == [0, 1, 2, 3, 4]
    again.add(5)
    again.add(6)
    assert 0 not in again
    assert {4, 5, 6} <= set(again.state().tolist())


@pytest.mark.parametrize("earlier", [[], [1, 1, 2]])
def test_what_an_earlier_release_wrote_down_is_taken(earlier: list[int]) -> None:
    """Checkpoints hold plain numbers, oldest first."""
    recent = RecentHashes(8)
    recent.add(9)
    recent.restore(np.array(earlier, np.int64).tolist())
    assert recent.state().tolist() == list(dict.fromkeys(earlier))
