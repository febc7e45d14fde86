"""The operator's figures out of metrics pages, as real workers and trainers write them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from liverank.measure.figures import FigureMeter, Figures, LiveDifference, Numbers, PartitionLag, VersionRanks, quantile
from online_learning.trainer.metrics import TrainerMetrics
from ranker.rollout.canary import Comparison
from streams.telemetry.metrics import Metrics

NOW = 1_800_000_000_000


def page_of(metrics: Metrics | TrainerMetrics) -> str:
    """What Prometheus reads."""
    return generate_latest(metrics.registry).decode()


def read(meter: FigureMeter, second: float, *workers: Metrics, trainer: TrainerMetrics | None = None) -> Figures:
    """A reading so many seconds after the first."""
    pages = [page_of(worker) for worker in workers]
    return meter.read(NOW + round(1000 * second), pages, None if trainer is None else page_of(trainer))


def test_rates_are_of_ten_seconds_and_percentiles_of_a_minute() -> None:
    """Two workers count together; what happened long ago is no rate of now, nor is its latency."""
    first, second, meter = Metrics(), Metrics(), FigureMeter()
    first.events("clicks", 1000)
    first.ranked(30.0)
    begun = read(meter, 0, first, second)
    assert (begun.events_a_second, begun.p50_ms) == (0, None)
    for worker in (first, second):
        worker.events("views", 50)
        for _ in range(99):
            worker.ranked(0.0015)
        worker.ranked(0.9)
    found = read(meter, 10, first, second)
    assert (found.events_a_second, found.rankings_a_second, found.workers) == pytest.approx((10, 20, 2))
    assert found.p50_ms is not None and 1 < found.p50_ms < 2
    assert found.p99_ms is not None and found.p99_ms <= 2.001
    for at in range(11, 30):
        found = read(meter, at, first, second)
    assert found.events_a_second == 0 and found.p99_ms is not None
    for at in range(30, 90):
        found = read(meter, at, first, second)
    assert found.p99_ms is None


def test_a_worker_that_was_started_again_does_not_run_backwards() -> None:
    """Nor one that does not answer for a moment; and what happened while nobody looked is no rate of now."""
    worker, meter = Metrics(), FigureMeter()
    worker.events("clicks", 500)
    read(meter, 0, worker)
    assert read(meter, 2).events_a_second == 0
    assert read(meter, 4, Metrics()).events_a_second == 0
    assert read(meter, 4000, worker).events_a_second == 0


def test_what_a_worker_tells_is_shown() -> None:
    """Lag by topic and partition, version, swaps, deltas, refused inputs, and clicks by version."""
    worker, meter = Metrics(), FigureMeter()
    worker.lag({("views", 1): 0, ("clicks", 3): 7}, {})
    worker.model("v7")
    worker.models.swaps.inc(2)
    worker.models.deltas.labels("applied").inc(5)
    worker.models.delta_rows.inc(40)
    worker.models.learned_until.set(NOW / 1000 - 4)
    worker.dead_letter("clicks", "not-json")
    for value in (1.0, 0.5):
        worker.models.clicked("v7", value)
    found = read(meter, 0, worker)
    assert found.lag == [PartitionLag("clicks", 3, 7), PartitionLag("views", 1, 0)]
    assert (found.versions, found.swaps, found.deltas, found.delta_rows) == (["v7"], 2, {"applied": 5}, 40)
    assert found.learned_age_s == pytest.approx(4, abs=0.01)
    assert (found.dead_letters, found.ranks) == (1, [VersionRanks("v7", 2, 0.75)])
    worker.models.clicked("v7", 0.25)
    assert read(meter, 30, worker).rank_now == pytest.approx(0.25), "of the last minute's clicks, not of all"


def test_a_canary_is_compared_with_its_bounds() -> None:
    """While there is one: by both measures, each within the bounds by which a worker decides."""
    worker, meter, compared = Metrics(), FigureMeter(), Comparison()
    for at in range(40):
        compared = compared.clicked(1 / (1 + at % 3), at % 2 == 0).closed(at % 5 == 0, at % 2 == 0)
    worker.models.compared(compared, 0.05)
    worker.models.stages("v1", None)
    assert read(meter, 0, worker).comparison == []
    worker.models.stages("v1", "v2")
    ranks, lists = read(meter, 1, worker).comparison
    low, high = compared.ranks.interval(0.025)
    assert ranks == LiveDifference(0, "ranks", pytest.approx(compared.ranks.difference), low, high)  # type: ignore[arg-type]
    assert lists.measure == "lists" and lists.low < lists.difference < lists.high


def test_a_trainer_is_shown_or_missed() -> None:
    """Its progress where it answers."""
    trainer, meter = TrainerMetrics(), FigureMeter()
    trainer.trained.inc(100)
    trainer.learned_until.set(NOW / 1000)
    trainer.bundles.labels("promoted").inc(3)
    assert read(meter, 0, trainer=trainer).trainer is not None
    trainer.trained.inc(50)
    found = read(meter, 10, trainer=trainer).trainer
    assert found is not None
    assert (found.examples, found.bundles) == (150, {"promoted": 3})
    assert (found.examples_a_second, found.learned_age_s) == pytest.approx((5, 10))
    assert read(meter, 11).trainer is None


@given(
    st.lists(st.floats(0.0, 70.0), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.9, 0.99]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    """However the values lie; what is above the last bound counts as that bound."""
    bounds = (0.001, 0.1, 1, 10, 60)
    histogram = Histogram("waits", "of a test", buckets=bounds, registry=(registry := CollectorRegistry()))
    for value in values:
        histogram.observe(value)
    buckets = Numbers([generate_latest(registry).decode()]).by("waits_bucket", "le")
    found = quantile(buckets, share)
    true = float(np.quantile(values, share, method="inverted_cdf"))
    assert found is not None
    edges = (0.0, *bounds)
    high = next((bound for bound in bounds if true <= bound), 60)
    low = max((edge for edge in edges if edge < high), default=0.0) if true <= 60 else 60
    assert low - 1e-9 <= found <= high + 1e-9


def test_of_nothing_there_is_no_quantile() -> None:
    """Neither of no buckets, nor of empty ones."""
    assert quantile({}, 0.5) is None
    assert quantile({"1.0": 0.0, "+Inf": 0.0}, 0.5) is None
