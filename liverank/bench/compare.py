"""`liverank bench compare`: a worker beside what a team would write or run instead, on the same inputs and one machine.

One after the other, again and again, so that what else the machine does falls on all alike: a broker, one worker, the
load of `liverank bench latency`. Each pair of runs gives a ratio; their median and range are the answer.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console

from liverank.bench.latency import LatencyOptions, bench_latency
from liverank.local.processes import Program
from ranker.contracts.errors import LiverankError

OWN = "liverank"
FIGURES = ("cpu_us", "rate", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class CompareOptions:
    """What the user chose."""

    pairs: int = 5
    before: str | None = None  # a Python in whose environment another release is installed
    quix: str | None = None  # a Python in whose environment this release and Quix Streams are
    latency: LatencyOptions = field(default_factory=lambda: LatencyOptions(seconds=20.0, burst=10_000))


def bench_compare(options: CompareOptions, console: Console) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if options.pairs < 1:
        raise LiverankError("pairs must be at least 1")
    subjects = {OWN: Program(), "faust": Program("liverank.bench.peers.plain_faust", "run_plain_faust")}
    if options.quix is not None:
        subjects["quix"] = Program("liverank.bench.peers.quix", "run_quix", options.quix)
    if options.before is not None:
        subjects["before"] = Program(python=options.before)
    runs: list[dict[str, dict[str, float]]] = []
    about: dict[str, Any] = {}
    for pair in range(options.pairs):
        names = list(subjects)[:: -1 if pair % 2 else 1]
        found: dict[str, dict[str, float]] = {}
        for name in names:
            console.print(f"pair {pair + 1} of {options.pairs}: {name}")
            report = bench_latency(options.latency, console, subjects[name])
            about = {key: report[key] for key in ("machine", "settings")}
            found[name] = _figures(report)
        runs.append(found)
    return {**pair_ratios(runs), "runs": runs, "options": asdict(options), "python": sys.version.split()[0], **about}


def pair_ratios(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Medians of each subject's figures, and the ratios of liverank's over the others', pair by pair.

    Args:
        runs: of each pair the figures by subject.
    """
    others = [name for name in runs[0] if name != OWN]
    return {
        **{
            name: {figure: statistics.median(run[name][figure] for run in runs) for figure in (*FIGURES, "missing")}
            for name in runs[0]
        },
        "ratios": {
            name: {figure: _spread([run[OWN][figure] / run[name][figure] for run in runs]) for figure in FIGURES}
            for name in others
        },
    }


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    return {
        "cpu_us": report["worker_cpu_us"] or float("nan"),
        "rate": report["burst"]["inputs_per_s"],
        "p50_ms": report["latency_ms"]["p50"],
        "p99_ms": report["latency_ms"]["p99"],
        "missing": report["missing"],
    }


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(ratios), 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)
    }  # fmt: skip
