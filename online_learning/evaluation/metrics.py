"""How well a ranking put the clicked item: reciprocal rank and NDCG of the rank, with bootstrap intervals.

The measures are those of `ir-measures` (S. MacAvaney et al., ECIR 2022); the intervals resample queries, or the users
they came from (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ir_measures
import numpy as np

#: name -> the measure.
MEASURES = {"RR": ir_measures.RR, "nDCG@10": ir_measures.nDCG @ 10}
#: A target behind this rank counts as not found, as in trec_eval.
DEPTH = 1000
NOT_FOUND = 0
SAMPLES = 2000
_DRAWS_AT_ONCE = 4_000_000


class Summary(NamedTuple):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of a - b over the same queries, its 95 % interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


def pessimistic_rank(scores: np.ndarray, target: int) -> int:
    """1 + the number of other items that score at least as high as the target: ties count against it.

    Args:
        scores: float [items]; NaN stands below every number.
        target: index of the item that was wanted.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    return int(np.count_nonzero(known >= known[target]))


def of_ranks(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure for each query with one relevant item: name -> float64 [queries], 0 to 1.

    Args:
        ranks: int [queries], from 1; `NOT_FOUND` where the item was not among those ranked.
    """
    # A query's value depends on its rank alone, so each distinct rank is measured once, all of them in one call.
    distinct, place = np.unique(np.where(ranks > DEPTH, NOT_FOUND, ranks), return_inverse=True)
    relevant = {str(rank): {str(rank): 1} for rank in distinct}
    found = {str(rank): {str(at): -float(at) for at in range(1, rank + 1)} for rank in distinct if rank != NOT_FOUND}
    values = {name: np.zeros(len(distinct)) for name in MEASURES}
    index = {str(rank): number for number, rank in enumerate(distinct)}
    if found:
        names = {measure: name for name, measure in MEASURES.items()}
        for metric in ir_measures.iter_calc(list(names), relevant, found):
            values[names[metric.measure]][index[metric.query_id]] = metric.value
    return {name: value[place] for name, value in values.items()}


def summarise(values: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> Summary:
    """The mean with its 95 % percentile bootstrap interval; NaN where there is nothing, and for bounds of one group.

    Args:
        values: float [queries].
        groups: one label a query (its user, say): whole groups are drawn, since their queries are not independent.
        seed: of the draws.
    """
    if not len(values):
        return Summary(np.nan, np.nan, np.nan)
    if _is_one(values, groups):  # which says nothing of how others would be
        return Summary(float(np.mean(values)), np.nan, np.nan)
    low, high = np.quantile(_resampled_means(values, groups, seed), (0.025, 0.975))
    return Summary(float(np.mean(values)), float(low), float(high))


def paired_bootstrap(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> Difference:
    """Is ranker a better than b on the same queries? Positive where a is.

    p is twice the smaller share of resampled differences on either side of 0, and never below 2 / (samples + 1); NaN of
    one group, as the bounds are.

    Args:
        a: float [queries].
        b: float [queries], of the same queries in the same order.
        groups: as in `summarise`.
        seed: of the draws.

    Raises:
        ValueError: the two are not of the same queries.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}; both must be of the same queries, in the same order")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    summary = summarise(difference, groups, seed=seed)
    if len(difference) and _is_one(difference, groups):
        return Difference(*summary, p=np.nan)
    means = _resampled_means(difference, groups, seed) if len(difference) else np.zeros(0)
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Difference(*summary, p=float(min(1.0, 2 * (beyond + 1) / (len(means) + 1))))


def _is_one(values: np.ndarray, groups: np.ndarray | None) -> bool:
    return len(values if groups is None else np.unique(groups)) < 2


def _resampled_means(values: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """float64 [SAMPLES]: means of as many groups, drawn with replacement, as there are."""
    place = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(place, values), np.bincount(place)
    means = [sums[drawn].sum(1) / counts[drawn].sum(1) for drawn in _draws(len(sums), np.random.default_rng(seed))]
    return np.concatenate(means)


def _draws(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """int [some samples, count], SAMPLES rows in all, a few at once for the memory's sake."""
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, SAMPLES, step):
        yield rng.integers(count, size=(min(step, SAMPLES - start), count), dtype=np.int32)
