"""What several runs of several workers say together."""

from __future__ import annotations

import pytest

from liverank.bench.compare import pair_ratios


def run(cpu_us: float, rate: float, p50_ms: float, p99_ms: float) -> dict[str, float]:
    """The figures of one run."""
    return {"cpu_us": cpu_us, "rate": rate, "p50_ms": p50_ms, "p99_ms": p99_ms, "missing": 0}


def test_ratios_are_of_pairs_and_not_of_medians() -> None:
    """A machine that is slow for one pair is slow for both of it: each pair has its ratio, liverank's over others'."""
    found = pair_ratios(
        [
            {"liverank": run(100, 50, 2, 8), "faust": run(200, 10, 4, 8)},
            {"liverank": run(300, 30, 3, 9), "faust": run(400, 10, 4, 6)},
            {"liverank": run(200, 20, 4, 4), "faust": run(800, 10, 1, 8)},
        ]
    )
    assert found["liverank"] == {"cpu_us": 200, "rate": 30, "p50_ms": 3, "p99_ms": 8, "missing": 0}
    assert found["faust"]["cpu_us"] == 400
    ratios = found["ratios"]["faust"]
    assert ratios["cpu_us"] == {"median": 0.5, "low": 0.25, "high": 0.75}
    assert ratios["rate"] == {"median": 3.0, "low": 2.0, "high": 5.0}
    assert ratios["p99_ms"] == {"median": 1.0, "low": 0.5, "high": 1.5}


@pytest.mark.parametrize("others", [[], ["faust"], ["faust", "before"]])
def test_each_other_worker_has_its_ratios(others: list[str]) -> None:
    """However many there are."""
    found = pair_ratios([{"liverank": run(1, 1, 1, 1), **{name: run(2, 2, 2, 2) for name in others}}])
    assert list(found["ratios"]) == others
