"""Measures against values computed by hand, and intervals against cases whose answer is known."""

import math

import numpy as np
import pytest

from online_learning.evaluation.metrics import NOT_FOUND, of_ranks, paired_bootstrap, pessimistic_rank, summarise


@pytest.mark.parametrize(
    ("scores", "target", "rank"),
    [
        ([3.0, 2.0, 1.0], 0, 1),
        ([3.0, 2.0, 1.0], 2, 3),
        ([1.0, 1.0, 1.0], 0, 3),
        ([2.0, 1.0, 1.0], 1, 3),
        ([math.nan, 1.0], 1, 1),
        ([math.nan, 1.0], 0, 2),
        ([math.nan, math.nan], 0, 2),
        ([-math.inf, 0.0], 0, 2),
        ([5.0], 0, 1),
    ],
)
def test_ties_and_missing_scores_count_against_the_target(scores, target, rank):
    """A ranker that gives every item the same score, or none, gets the last rank and no credit for luck."""
    assert pessimistic_rank(np.array(scores), target) == rank


def test_measures_of_known_ranks():
    """1/rank, and 1/log2(rank + 1) within the first ten; a target that was not ranked is worth nothing."""
    found = of_ranks(np.array([1, 2, 10, 11, NOT_FOUND, 2, 1000, 1001]))
    assert found["RR"] == pytest.approx([1, 0.5, 0.1, 1 / 11, 0, 0.5, 0.001, 0])
    assert found["nDCG@10"] == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(11), 0, 0, 1 / math.log2(3), 0, 0])


@pytest.mark.parametrize("ranks", [[], [NOT_FOUND, NOT_FOUND]])
def test_measures_where_nothing_was_found(ranks):
    """No query gives no value, and a miss alone gives 0."""
    assert all(len(value) == len(ranks) and not value.any() for value in of_ranks(np.array(ranks, int)).values())


def test_an_interval_is_the_normal_one_for_many_values():
    """For 5,000 independent values the interval is the mean ± 1.96 standard errors, and comes again by its seed."""
    values = np.random.default_rng(1).random(5000)
    error = 1.96 * values.std() / math.sqrt(len(values))
    found = summarise(values)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - error, found.value + error), abs=0.1 * error)
    assert summarise(values) == found
    assert all(math.isnan(number) for number in summarise(np.zeros(0)))


def test_groups_widen_the_interval():
    """A value seen 20 times from each of 50 users is 50 findings, not 1,000."""
    one_each = np.random.default_rng(2).random(50)
    values, users = np.repeat(one_each, 20), np.repeat([f"user{n}" for n in range(50)], 20)
    alone, grouped = summarise(values), summarise(values, users)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low == pytest.approx(math.sqrt(20) * (alone.high - alone.low), rel=0.1)


def test_a_paired_difference_is_found_where_the_unpaired_one_drowns():
    """Both sides vary alike from query to query; their difference is small and steady."""
    rng = np.random.default_rng(3)
    b = rng.random(500)
    a = b + 0.01 + 0.01 * rng.standard_normal(500)
    better, worse, same = paired_bootstrap(a, b), paired_bootstrap(b, a), paired_bootstrap(b, b)
    assert better.p < 0.002
    assert 0 < better.low < better.value < better.high
    assert worse.value == pytest.approx(-better.value)
    assert worse.p == better.p
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert summarise(a).low < summarise(b).high


def test_chance_is_called_a_difference_as_often_as_promised():
    """Of 300 pairs that differ by luck alone about 5 % have p < 0.05, and in those alone the interval excludes 0."""
    rng = np.random.default_rng(4)
    found = [paired_bootstrap(rng.random(80), rng.random(80), seed=seed) for seed in range(300)]
    assert 0.02 < np.mean([pair.p < 0.05 for pair in found]) < 0.09
    assert 0.02 < np.mean([not pair.low < 0 < pair.high for pair in found]) < 0.09


def test_one_user_has_no_interval():
    """However many of their queries there are: drawn again and again they are the same, which is not certainty."""
    values, one = np.random.default_rng(5).random(50), np.repeat("u", 50)
    found, difference = summarise(values, one), paired_bootstrap(values, np.zeros(50), one)
    assert found.value == difference.value == pytest.approx(values.mean())
    bounds = (found.low, found.high, difference.low, difference.high, difference.p, *summarise(values[:1])[1:])
    assert all(math.isnan(number) for number in bounds)
    two = np.array(["u", "v"] * 25)
    assert summarise(values, two).low < summarise(values, two).high


def test_unequal_queries_are_refused():
    """Values of different queries cannot be paired."""
    with pytest.raises(ValueError, match="3 values against 2; both must be of the same queries"):
        paired_bootstrap(np.zeros(3), np.zeros(2))
