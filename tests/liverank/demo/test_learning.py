"""What the demo says of the learning: swaps that users saw, of promoted versions, and the processes' figures."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from liverank.demo.learning import Learning, Pages
from online_learning.trainer.metrics import TrainerMetrics
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Cause, Example, ModelDelta, ModelUpdate, Outcome, Ranking
from streams.telemetry.model_metrics import ModelMetrics

CAUSE = Cause(kind="click", topic="clicks", partition=0, offset=0, ts=0)


def announce(learning: Learning, version: str, stage: str = "promoted", model: str = "demo") -> None:
    update = ModelUpdate(model=model, version=version, sha256="", stage=stage)
    take(learning, "model-updates", update)


def rank(learning: Learning, version: str, now: int = 0, delta: int = 0) -> None:
    ranking = Ranking(
        ranking_id="r", user_id="u", revision=1, applied={}, request_id="r", ts=0, model=version, delta=delta,
        cause=CAUSE, items=[],
    )  # fmt: skip
    learning.ranked(ranking, now)


def click(learning: Learning, user: str, ts: int, offset: int) -> None:
    """An example of a click on `film`."""
    outcome = Outcome(item_id="film", action="click", ts=ts, event_id="e")
    example = Example(
        example_id=f"{user}-{ts}", user_id=user, request_id="r", ts=ts, model="1", schema="", state=b"",
        outcome=outcome,
    )  # fmt: skip
    take(learning, "examples", example, offset)


def send(learning: Learning, base: str, sequence: int, offset: int, model: str = "demo") -> None:
    """A delta that has learned from what is before the offset."""
    rows = {str(hash_id("film")): b""}
    delta = ModelDelta(
        model=model, base=base, sequence=sequence, learned_until=0, rows=rows, offsets={"examples-0": offset}
    )
    take(learning, "model-deltas", delta)


def take(learning: Learning, topic: str, record: msgspec.Struct, offset: int = 0) -> None:
    learning.took(SimpleNamespace(topic=topic, partition=0, offset=offset, value=msgspec.json.encode(record)))


def test_a_swap_is_a_promoted_version_that_ranks() -> None:
    """Announced alone is none, nor is a canary; a late ranking by an older version neither counts nor serves."""
    learning = Learning("demo")
    rank(learning, "1")
    announce(learning, "2")
    assert learning.swaps == 0
    rank(learning, "2", now=20)
    rank(learning, "1", now=30)
    rank(learning, "2", now=40)
    assert (learning.swaps, learning.serving, learning.since) == (1, "2", 20)
    announce(learning, "3", stage="canary")
    rank(learning, "3")
    assert learning.swaps == 1
    announce(learning, "3")
    assert learning.swaps == 2


def test_swaps_before_the_beginning_do_not_count() -> None:
    """Only versions that begin to rank after it, also where an older one ranks once more."""
    learning = Learning("demo")
    for version in ("1", "2", "3"):
        announce(learning, version)
        rank(learning, version)
    learning.begin(0)
    rank(learning, "2")
    rank(learning, "3")
    assert learning.swaps == 0
    announce(learning, "4")
    rank(learning, "4")
    assert learning.swaps == 1


def test_other_models_are_passed_over() -> None:
    """A broker may carry several models' updates and deltas."""
    learning = Learning("demo")
    announce(learning, "2", model="other")
    send(learning, "1", sequence=7, offset=1, model="other")
    rank(learning, "1")
    rank(learning, "2")
    assert (learning.swaps, learning.delta, list(learning.updates)) == (0, None, [])


def test_a_click_is_fresh_with_the_first_ranking_that_learned_from_it() -> None:
    """The wait ends with the ranking whose delta covers the click; of clicks before the beginning, after the end, and
    of other people on the same broker nothing is said.
    """
    learning = Learning("demo")
    learning.start({"examples-0": 40})
    learning.freshness.manifest("1", {})
    learning.begin(10_000)
    for offset, (user, ts) in enumerate([("demo-1", 9_000), ("demo-1", 10_500), ("other", 10_600), ("demo-2", 12_000)]):
        click(learning, user, ts, 40 + offset)
    assert learning.fresh().never_in_delta == 2
    send(learning, "1", sequence=11_000, offset=43)
    rank(learning, "1", now=11_200, delta=0)
    rank(learning, "1", now=11_750, delta=11_000)
    fresh = learning.fresh(until=12_000)
    assert (fresh.delta_s.p50, fresh.delta_s.n, fresh.never_in_delta) == (1.25, 1, 0)
    assert learning.fresh().never_in_delta == 1
    assert learning.delta == 11_000


def test_refusals_are_read_off_the_workers_page() -> None:
    """All reasons together; none as long as nothing was refused."""
    registry, pages = CollectorRegistry(), Pages()
    metrics = ModelMetrics(registry)
    pages.worker(generate_latest(registry).decode())
    assert pages.refused == 0
    metrics.rejected.labels("golden").inc()
    metrics.rejected.labels("schema").inc(2)
    pages.worker(generate_latest(registry).decode())
    assert pages.refused == 3


def test_progressive_validation_is_read_off_the_trainers_page() -> None:
    """Each window counts once however often the page is read; the mean is over windows."""
    metrics, pages = TrainerMetrics(), Pages()
    pages.trainer(generate_latest(metrics.registry).decode())
    assert (pages.progressive(), pages.bundles) == (None, {})
    metrics.bundles.labels("promoted").inc(2)
    for mrr in (0.25, 0.75):
        for ranker in ("trainer", "serving", "first"):
            metrics._ranks.labels(ranker, "mrr").set(mrr)
            metrics._ranks.labels(ranker, "ndcg@10").set(0.0)
        for _ in range(3):
            pages.trainer(generate_latest(metrics.registry).decode())
    assert pages.progressive() == {"trainer": 0.5, "serving": 0.5, "first": 0.5}
    assert pages.bundles == {"promoted": 2}
