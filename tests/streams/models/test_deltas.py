"""Deltas: in order, onto their base, and what is kept for a version that still loads."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry

from ranker.contracts.errors import BundleError
from ranker.contracts.records import ModelDelta
from ranker.serving.model import ServingModel
from streams.models.deltas import Deltas
from streams.telemetry.model_metrics import ModelMetrics


class Model:
    """Remembers what was put."""

    def __init__(self, version: str) -> None:
        self.version, self.sequence, self.learned_until = version, 0, 0
        self.rows: dict[str, bytes] = {}
        self.calls = 0

    def put_rows(self, rows: dict[str, bytes]) -> None:
        """As `ServingModel.put_rows`."""
        if b"bad" in rows.values():
            raise BundleError("no")
        if b"worse" in rows.values():
            raise OverflowError("an item's hash has more than 64 bits")
        self.calls += 1
        self.rows |= rows


def delta(base: str, sequence: int, **rows: bytes) -> ModelDelta:
    """A delta."""
    return ModelDelta(model="m", base=base, sequence=sequence, learned_until=sequence, rows=rows)


def models(*made: Model) -> list[ServingModel]:
    """As the slot gives them."""
    return [cast(ServingModel, model) for model in made]


def queue(*wanted: str) -> tuple[Deltas, Any]:
    """An empty queue, and a look at its counts."""
    metrics = ModelMetrics(CollectorRegistry())
    deltas = Deltas(metrics)
    deltas.want(wanted)

    def count(outcome: str) -> float:
        return metrics.deltas.labels(outcome)._value.get()

    return deltas, count


def test_they_apply_in_order_and_an_older_one_never() -> None:
    """The newest row of an item holds."""
    deltas, count = queue("v1")
    model = Model("v1")
    for sequence, row in ((5, b"a"), (7, b"b"), (6, b"c"), (7, b"d")):
        assert deltas.receive(delta("v1", sequence, x=row))
    deltas.apply(models(model))
    assert (model.rows, model.sequence, model.learned_until) == ({"x": b"b"}, 7, 7)
    assert (count("applied"), count("out-of-order")) == (2, 2)


def test_one_for_another_version_is_dropped_and_one_for_a_newer_waits() -> None:
    """A version that still loads, or was not announced yet, gets its deltas once it serves."""
    deltas, count = queue("v2")
    assert not deltas.receive(delta("v1", 1, x=b"old"))
    assert deltas.receive(delta("v3", 2, x=b"new"))
    current, coming = Model("v2"), Model("v3")
    deltas.apply(models(current))
    assert (current.rows, count("other-version")) == ({}, 1)
    deltas.want(["v2", "v3"])
    deltas.apply(models(current, coming))
    assert (current.rows, coming.rows) == ({}, {"x": b"new"})


def test_what_waits_for_a_version_that_never_came_goes() -> None:
    """As soon as a newer one is wanted."""
    deltas, count = queue("v1")
    deltas.receive(delta("v2", 1, x=b""))
    deltas.want(["v3"])
    assert count("other-version") == 1
    never = Model("v2")
    deltas.apply(models(never))
    assert never.rows == {}


def test_what_waits_for_versions_that_nobody_announced_is_bounded() -> None:
    """However many versions somebody invents, and however large the rows are: the oldest go, and are counted."""
    deltas, count = queue("v1")
    for number in range(2000):
        deltas.receive(delta(f"v2-{number}", number, x=b""))
    assert count("too-many") == 1400
    newest, oldest = Model("v2-1999"), Model("v2-0")
    deltas.apply(models(newest, oldest))
    assert (newest.rows, oldest.rows) == ({"x": b""}, {})
    deltas, count = queue("v1")
    for number in range(5):
        deltas.receive(delta("v2", number, x=bytes(20 << 20)))
    assert count("too-many") == 2
    for number in range(700):
        deltas.receive(delta("v1", number + 1, x=b""))
    assert count("too-many") == 2, "a version that serves takes all of its own"


def test_a_large_one_is_applied_in_parts() -> None:
    """No batch waits for thousands of rows; nothing of it is lost, and its sequence counts at the end."""
    deltas, _ = queue("v1")
    model = Model("v1")
    deltas.receive(delta("v1", 9, **{str(number): b"" for number in range(1000)}))
    deltas.receive(delta("v1", 10, y=b""))
    assert deltas.apply(models(model))
    assert 0 < len(model.rows) < 1000
    assert model.sequence < 9
    while deltas.apply(models(model)):
        pass
    assert (len(model.rows), model.sequence) == (1001, 10)


def test_one_that_does_not_fit_is_left_out() -> None:
    """And counted; the next one applies."""
    deltas, count = queue("v1")
    model = Model("v1")
    deltas.receive(delta("v1", 1, x=b"bad"))
    deltas.receive(delta("v1", 2, x=b"worse"))
    deltas.receive(delta("v1", 3, x=b"good"))
    deltas.apply(models(model))
    assert (model.rows, count("refused"), count("applied")) == ({"x": b"good"}, 2, 1)
