"""How a ranker gets better while it learns: mean reciprocal rank by thousand events, beside simple rankers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from online_learning.evaluation.lists import summarise_ranks
from online_learning.evaluation.metrics import pessimistic_rank
from online_learning.evaluation.peers import LIST_PEERS
from online_learning.simulation.lists import RankedClick

_EVENTS_A_POINT = 1000


def learning_curve(ranked: Iterable[tuple[int, RankedClick]], report: Callable[[int], None]) -> dict[str, Any]:
    """`n`, `rankers`, `last_quarter` of the clicks, and `curve`: a point for each thousand events that had a click.

    Args:
        ranked: clicks with the number of events by then, in order of time.
        report: called with the number of clicks so far.
    """
    at: list[int] = []
    ranks: dict[str, list[int]] = {"liverank": [], **{name: [] for name in LIST_PEERS}}
    for events, click in ranked:
        at.append(events)
        ranks["liverank"].append(click.rank)
        for name, score in LIST_PEERS.items():
            ranks[name].append(pessimistic_rank(score(click.row), click.chosen))
        report(len(at))
    points, found = np.array(at) // _EVENTS_A_POINT, {name: np.array(given) for name, given in ranks.items()}
    curve = []
    for point in np.unique(points).tolist():
        some = points == point
        mrr = {name: float(np.mean(1 / given[some])) for name, given in found.items()}
        curve.append({"events": (point + 1) * _EVENTS_A_POINT, "n": int(some.sum()), "mrr": mrr})
    last = len(at) - len(at) // 4
    return {
        "n": len(at),
        "rankers": {name: summarise_ranks(given) for name, given in found.items()},
        "last_quarter": {name: summarise_ranks(given[last:]) for name, given in found.items()},
        "curve": curve,
    }
