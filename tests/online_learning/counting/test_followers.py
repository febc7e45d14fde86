"""Sums of who followed whom: as Python's own would be, until a row is full, and never larger than it may be."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_learning.counting.followers import Followers

KEPT = 3
PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2 * KEPT), st.sampled_from([0.25, 0.5, 1.0])), max_size=60)


def pairs(followers: Followers) -> dict[tuple[int, int], float]:
    """What is held of each pair."""
    lines = zip(*(followers.state()[name].tolist() for name in ("before", "after", "count")), strict=True)
    return {(before, after): count for before, after, count in lines}


@given(PAIRS)
def test_sums_are_exact_while_there_is_room(added: list[tuple[int, int, float]]) -> None:
    """Each item has no more followers than its row holds; the heaviest come first, with their share."""
    followers, sums = Followers(KEPT), defaultdict[tuple[int, int], float](float)
    for before, after, weight in added:
        followers.add(before, after, weight)
        sums[before, after] += weight
    assert pairs(followers) == sums
    items = sorted({before for before, _ in sums})
    if not items:
        return
    others, shares = followers.heaviest(np.array(items), 2)
    for at, item in enumerate(items):
        mine = {other: total for (before, other), total in sums.items() if before == item}
        best = sorted(mine.values(), reverse=True)[:2]
        found = [(other, share) for other, share in zip(others[at].tolist(), shares[at].tolist(), strict=True) if share]
        np.testing.assert_allclose([share for _, share in found], np.array(best) / (sum(mine.values()) + 1), rtol=1e-6)
        np.testing.assert_allclose([mine[other] for other, _ in found], best, rtol=1e-6)
        assert all(other == 0 for other, share in zip(others[at], shares[at], strict=True) if not share)


@given(st.lists(st.integers(1, 40), max_size=200))
def test_a_row_that_is_full_keeps_the_heaviest(after: list[int]) -> None:
    """One that was added far more often than all others is there whatever came since, and the row is bounded."""
    followers = Followers(KEPT)
    for _ in range(500):
        followers.add(7, 99, 1.0)
    for other in after:
        followers.add(7, other, 1.0)
    held = pairs(followers)
    assert held[7, 99] == 500
    assert len(held) <= 2 * KEPT
    assert not after or (7, after[-1]) in held


@given(PAIRS, st.sets(st.integers(1, 4)))
def test_what_was_forgotten_is_gone_and_the_rest_is_written_down(
    added: list[tuple[int, int, float]], gone: set[int]
) -> None:
    """Rows are used again, and another that goes on from the state holds the same."""
    followers, again = Followers(KEPT), Followers(KEPT)
    for before, after, weight in added:
        followers.add(before, after, weight)
    for item in gone:
        followers.forget(item)
    assert not {before for before, _ in pairs(followers)} & gone
    followers.add(11, 12, 1.0)
    assert pairs(followers)[11, 12] == 1.0
    again.restore(followers.state())
    assert pairs(again) == pairs(followers)
    again.add(11, 12, 1.0)
    assert pairs(again)[11, 12] == 2.0
