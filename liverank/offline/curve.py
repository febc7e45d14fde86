"""What came of an evaluation: figures, differences, and how a ranker gets better while it learns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from online_learning.evaluation.lists import Judged, compared, summarise_ranks
from ranker.contracts.errors import LiverankError

_EVENTS_A_POINT = 1000
#: How the curves are drawn: what is measured against stays thin.
_STYLES: dict[str, dict[str, Any]] = {
    "liverank": {"color": "C3", "linewidth": 2.2}, "offline": {"color": "C0", "linewidth": 2.2},
    "shown": {"color": "0.6"}, "touched": {"color": "C2"}, "popularity": {"color": "C4"}, "markov": {"color": "C1"},
    "neighbours": {"color": "C5"},
}  # fmt: skip
_DRAWN_CLICKS = 200  # a drawn point has so many at least: a thousand events may have a dozen


def judged_report(judged: Judged, offline: np.ndarray | None = None) -> dict[str, Any]:
    """`n`, `users`, `rankers`, `differences`, both again of the last quarter of the choices, and `curve`, a point for
    each thousand events that had a choice.

    Args:
        judged: at least one query.
        offline: int [queries of `last_quarter`], ranks by a model trained on all that came before them.
    """
    last = last_quarter(judged.times)
    late = {name: given[last] for name, given in judged.ranks.items()}
    partly: dict[str, np.ndarray] = {}
    if offline is not None:
        late["offline"] = offline
        partly["offline"] = np.full(len(last), np.nan)
        partly["offline"][last] = _reciprocal(offline)
    return {
        "n": len(judged.times),
        "users": len(np.unique(judged.users)),
        "rankers": {name: summarise_ranks(given, judged.users) for name, given in judged.ranks.items()},
        "differences": compared(judged.ranks, judged.users),
        "last_quarter": {name: summarise_ranks(given, judged.users[last]) for name, given in late.items()},
        "last_quarter_differences": compared(late, judged.users[last]),
        "curve": curve_points(judged.events, judged.ranks, partly),
    }


def last_quarter(times: np.ndarray) -> np.ndarray:
    """bool [queries]: the last quarter of the choices, and those at the time of its first."""
    chosen: np.ndarray = times >= np.sort(times)[len(times) - max(1, len(times) // 4)]
    return chosen


def curve_points(
    events: np.ndarray, ranks: Mapping[str, np.ndarray], partly: Mapping[str, np.ndarray] | None = None
) -> list[dict[str, Any]]:
    """`events`, `n` and `mrr` by ranker, for each thousand events of a log that had a choice.

    Args:
        events: int [queries], how many there had been by then.
        ranks: int [queries] by ranker.
        partly: float [queries], reciprocal ranks by rankers that were not asked everything, NaN where they were not.
    """
    values = {**{name: _reciprocal(given) for name, given in ranks.items()}, **(partly or {})}
    points = (events - 1) // _EVENTS_A_POINT
    curve = []
    for point in np.unique(points).tolist():
        some = points == point
        mrr = {name: float(given[some].mean()) for name, given in values.items()}
        known = {name: value for name, value in mrr.items() if not np.isnan(value)}
        curve.append({"events": (point + 1) * _EVENTS_A_POINT, "n": int(some.sum()), "mrr": known})
    return curve


def _reciprocal(ranks: np.ndarray) -> np.ndarray:
    """float64 [queries]; 0 where the item was not found."""
    return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)


def require_drawing(path: Path) -> None:
    """Before a long evaluation: what drawing into a file takes is there.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        LiverankError: the file's folder does not exist.
    """
    import matplotlib  # noqa: F401, PLC0415  # an extra

    if not path.parent.is_dir():
        raise LiverankError(f"{path.parent} is no folder; the curve is written into one that exists")


def draw_curve(curve: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw a curve of `judged_report` as a PNG; neighbouring points are joined until each has enough choices.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, (events, mrr) in drawn_points(curve).items():
        style = {"linewidth": 1.1, **_STYLES.get(name, {})}
        axes.plot(events, mrr, label=name, marker="o", markersize=2.5, **style)
    axes.set(xlabel="events of the log", ylabel="mean reciprocal rank", title=title)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize="small", ncols=2)
    figure.savefig(path, format="png", dpi=120)


def drawn_points(curve: list[dict[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """ranker -> events, and the mean reciprocal rank of the choices since the point before."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for name in dict.fromkeys(name for point in curve for name in point["mrr"]):
        events, mrr = found.setdefault(name, ([], []))
        count, total = 0, 0.0
        for point in (point for point in curve if name in point["mrr"]):
            count, total = count + point["n"], total + point["n"] * point["mrr"][name]
            if count >= _DRAWN_CLICKS or point is curve[-1]:
                events.append(point["events"])
                mrr.append(total / count)
                count, total = 0, 0.0
    return found
