"""Easy first, hard later, and in the end the task as it is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_learning.learning import curriculum
from online_learning.learning.curriculum import LESSONS


@given(st.integers(1, 500))
def test_stages_come_in_order_and_end_with_everything(steps: int) -> None:
    """Histories only get longer; the last step of a run that has a step for each stage is the plain task."""
    stages = [curriculum.lesson(step, steps) for step in range(steps)]
    shares = [stage.history for stage in stages]
    assert shares == sorted(shares)
    if steps >= len(LESSONS):
        assert stages[-1] == LESSONS[-1]
        assert set(stages) == set(LESSONS)
    assert LESSONS[-1].negatives is None


@given(st.integers(1, 500))
def test_the_rate_warms_up_and_fades_out(steps: int) -> None:
    """Between 0 and 1, and never rising after its peak."""
    rates = [curriculum.rate(step, steps) for step in range(steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.integers(0, 3), st.integers(1, 30), st.integers(0, 99))
def test_only_the_shortest_histories_are_drawn(lengths: list[int], stage: int, count: int, seed: int) -> None:
    """Without replacement, and none longer than the share that the stage allows."""
    drawn = curriculum.draw(lengths, LESSONS[stage], count, np.random.default_rng(seed))
    assert len(set(drawn.tolist())) == len(drawn) <= count
    allowed = int(np.ceil(LESSONS[stage].history * len(lengths)))
    longest = sorted(lengths)[max(allowed, 1) - 1]
    assert all(lengths[place] <= longest for place in drawn)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 2), st.integers(0, 99))
def test_the_softmax_is_over_the_chosen_one_and_its_negatives(sizes: list[int], stage: int, seed: int) -> None:
    """As many negatives as the stage says, of them the highest scored where they are to be hard; no padding."""
    rng = np.random.default_rng(seed)
    at = LESSONS[stage]
    assert at.negatives is not None
    scores = [rng.normal(size=size) for size in sizes]
    chosen = [None if rng.random() < 0.2 else int(rng.integers(size)) for size in sizes]
    mask = curriculum.considered(scores, chosen, at, rng)
    assert mask is not None
    assert mask.shape == (len(sizes), max(sizes))
    for row, line, place in zip(mask, scores, chosen, strict=True):
        assert not row[len(line) :].any()
        others = len(line) - (place is not None)
        assert row.sum() == min(at.negatives, others) + (place is not None)
        if place is not None:
            assert row[place]
        if at.hard == 1 and others > at.negatives:
            negatives = [candidate for candidate in range(len(line)) if row[candidate] and candidate != place]
            left_out = [candidate for candidate in range(len(line)) if not row[candidate]]
            assert min(line[negatives]) >= max(line[left_out])


def test_the_plain_task_masks_nothing() -> None:
    """None stands for every candidate."""
    assert curriculum.considered([np.zeros(3)], [0], LESSONS[-1], np.random.default_rng(0)) is None
