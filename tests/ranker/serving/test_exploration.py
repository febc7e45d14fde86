"""Exploration: where it shuffles, and whether what it logs is the chance of what it shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.serving.exploration import explore
from ranker.serving.ranking import Ranked


def ranked(count: int) -> Ranked:
    """A list by score."""
    places = np.arange(count)
    return Ranked(
        tuple(f"i{number}" for number in range(count)),
        places,
        1.0 - places / 100,
        (0.5 - places / 100)[:, None],
        ("click",),
    )


def lines(ranking: Ranked) -> list[tuple[str, float, list[float]]]:
    """Each item with its numbers."""
    return list(zip(ranking.item_ids, ranking.scores.tolist(), ranking.probabilities.tolist(), strict=True))


@given(st.integers(0, 12), st.floats(0, 1), st.integers(0, 12), st.text(min_size=1))
def test_only_the_end_moves_and_each_line_keeps_its_numbers(count: int, share: float, after: int, name: str) -> None:
    """The same items, the first places untouched, the same draw for the same ranking."""
    before = ranked(count)
    shown = explore(before, share, after, name)
    again = explore(before, share, after, name)
    assert again.propensities is not None
    assert shown.item_ids[:after] == before.item_ids[:after]
    assert sorted(lines(shown)) == sorted(lines(before))
    assert shown.propensities is not None
    chances = shown.propensities.tolist()
    assert (lines(again), again.propensities.tolist()) == (lines(shown), chances)
    assert all(0 <= chance <= 1 for chance in chances)
    assert chances[:after] == [1.0] * min(after, count)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_propensities_are_how_often_it_happens(share: float) -> None:
    """Over many rankings, each item's frequency at each place is what was logged there, within 4 deviations."""
    draws, count, after = 20_000, 6, 2
    seen: Counter[tuple[str, int]] = Counter()
    logged: dict[tuple[str, int], float] = {}
    for number in range(draws):
        shown = explore(ranked(count), share, after, f"user:{number}:v1")
        assert shown.propensities is not None
        for place, (item, chance) in enumerate(zip(shown.item_ids, shown.propensities.tolist(), strict=True)):
            seen[item, place] += 1
            assert logged.setdefault((item, place), chance) == chance
    for place, chance in logged.items():
        deviation = (chance * (1 - chance) / draws) ** 0.5
        assert seen[place] / draws == pytest.approx(chance, abs=4 * deviation + 1e-9)
