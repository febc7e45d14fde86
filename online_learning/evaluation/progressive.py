"""Test then train: how well each example was foreseen before anything was learned from it, in windows.

The prequential evaluation of J. Gama, R. Sebastiao and P. Rodrigues ("On evaluating stream learning algorithms",
Machine Learning 90, 2013), for several rankers on the same examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from online_learning.evaluation.metrics import of_ranks, pessimistic_rank
from ranker.contracts.schema import FeatureSchema


class Tested(NamedTuple):
    """One example against one ranker's scores."""

    rank: int | None  # of the chosen item; None where nothing was chosen
    losses: np.ndarray  # float64 [A], the mean binary cross entropy of the list for each positive action
    expected: np.ndarray  # float64 [A], how many the probabilities add up to
    happened: np.ndarray  # float64 [A], how many there were: 0 or 1

    @property
    def loss(self) -> float:
        """Mean over the actions."""
        return float(self.losses.mean())


class RankerFigures(Struct, frozen=True, kw_only=True):
    """A ranker in one window. `calibration` is expected over happened, 1 where probabilities are right."""

    mrr: float
    ndcg: float  # at 10
    log_loss: dict[str, float]  # by action
    calibration: dict[str, float]  # by action; absent where the action never happened


class Window(Struct, frozen=True, kw_only=True):
    """One report."""

    examples: int
    chosen: int  # those that drew an action: what mrr and ndcg are over
    since: int  # timestamps of the oldest and the newest example, milliseconds
    until: int
    rankers: dict[str, RankerFigures]


def tested(logits: np.ndarray, chosen: int | None, head: int, weights: np.ndarray) -> Tested:
    """Compare a ranker's scores with what happened.

    Args:
        logits: float32 [C, A].
        chosen: place of the chosen item, None where nothing was.
        head: number of the positive action.
        weights: float [A] that combine the actions' probabilities into the score, as in serving.
    """
    wide = logits.astype(np.float64)
    happened = np.zeros_like(wide)
    if chosen is not None:
        happened[chosen, head] = 1.0
    chances = _chances(wide)
    losses = np.logaddexp(0.0, wide) - happened * wide  # binary cross entropy of a logit
    rank = None if chosen is None else chosen_rank(logits, chosen, weights)
    return Tested(rank, losses.mean(axis=0), chances.sum(axis=0), happened.sum(axis=0))


def chosen_rank(logits: np.ndarray, chosen: int, weights: np.ndarray) -> int:
    """The chosen item's rank by a ranker's scores; arguments as for `tested`."""
    return pessimistic_rank(_chances(logits.astype(np.float64)) @ weights, chosen)


def _chances(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # of a logit below -709: the chance is 0
        chances: np.ndarray = 1 / (1 + np.exp(-logits))
    return chances


class Progressive:
    """Collects tests, and gives a report whenever a window is full."""

    def __init__(self, schema: FeatureSchema, window: int) -> None:
        """
        Args:
            schema: names the positive actions.
            window: examples of one report.
        """
        self._actions = [action.name for action in schema.positives]
        self._window = window
        self._tests: dict[str, list[Tested]] = {}
        self._times: list[int] = []

    def add(self, ts: int, tests: Mapping[str, Tested]) -> Window | None:
        """One example's tests by ranker; the report where it completes a window.

        A ranker that appears or disappears within a window is reported over its own examples.
        """
        self._times.append(ts)
        for name, test in tests.items():
            self._tests.setdefault(name, []).append(test)
        return self.close() if len(self._times) >= self._window else None

    def close(self) -> Window | None:
        """The report of what has come since the last one; None where nothing has."""
        if not self._times:
            return None
        chosen = max((sum(test.rank is not None for test in tests) for tests in self._tests.values()), default=0)
        report = Window(
            examples=len(self._times),
            chosen=chosen,
            since=min(self._times),
            until=max(self._times),
            rankers={name: self._figures(tests) for name, tests in self._tests.items()},
        )
        self._times, self._tests = [], {}
        return report

    def _figures(self, tests: Sequence[Tested]) -> RankerFigures:
        ranks = np.array([test.rank for test in tests if test.rank is not None])
        measures = of_ranks(ranks.astype(np.int64))
        mean = {name: float(values.mean()) if len(values) else 0.0 for name, values in measures.items()}
        losses = np.mean([test.losses for test in tests], axis=0)
        expected = np.sum([test.expected for test in tests], axis=0)
        happened = np.sum([test.happened for test in tests], axis=0)
        return RankerFigures(
            mrr=mean["RR"],
            ndcg=mean["nDCG@10"],
            log_loss=dict(zip(self._actions, losses.tolist(), strict=True)),
            calibration={
                action: float(expected[at] / happened[at]) for at, action in enumerate(self._actions) if happened[at]
            },
        )
