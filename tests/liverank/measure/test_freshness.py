"""When an event was first in weights that ranked: exact, and the same in whatever order the topics come."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from liverank.measure.freshness import Freshness, Percentiles
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example, ModelDelta, Outcome

SECOND = 1000


def example(number: int, item: str, ts: float, **changes: object) -> Example:
    """A click on an item, at so many seconds."""
    outcome = Outcome(item_id=item, action="click", ts=round(ts * SECOND), event_id=f"e{number}")
    fields = {"outcome": outcome, "example_id": f"u:r:{number}", **changes}
    return Example(user_id="u", request_id="r", ts=round(ts * SECOND), model="v1", schema="s", state=b"", **fields)


def delta(base: str, sequence: int, items: list[str], **offsets: int) -> ModelDelta:
    """A delta with the rows of these items, learned from the examples before `p0`, `p1`."""
    return ModelDelta(
        model="m", base=base, sequence=sequence, learned_until=0, rows={str(hash_id(item)): b"" for item in items},
        offsets={f"examples-{name[1:]}": offset for name, offset in offsets.items()},
    )  # fmt: skip


def one_click() -> Freshness:
    """A version that has learned nothing yet, and a click on `a` at 10 s, the first example of partition 0."""
    made = Freshness()
    made.manifest("v1", {})
    made.example(0, 0, example(0, "a", 10.0))
    return made


def waits(made: Freshness) -> tuple[float | None, float | None]:
    """Of the only event: to a delta, and to dense weights."""
    report = made.report()
    return report.delta_s.p50, report.dense_s.p50


def test_a_delta_counts_from_the_first_ranking_that_had_applied_it() -> None:
    """Rankings by the bundle alone, or before it was applied, do not count; it does not reach the dense weights."""
    made = one_click()
    made.ranking(10.5, "v1", 0)
    made.delta(delta("v1", 5, ["a"], p0=1))
    made.ranking(11.0, "v1", 4)
    assert waits(made) == (None, None)
    made.ranking(11.5, "v1", 5)
    made.ranking(12.5, "v1", 5)
    assert waits(made) == (1.5, None)


def test_a_delta_without_the_items_row_or_from_before_the_example_does_not_count() -> None:
    """The row may have been left for the next delta; the offset is that after the last example learned from."""
    made = one_click()
    made.delta(delta("v1", 5, ["b"], p0=1))
    made.ranking(11.0, "v1", 5)
    made.delta(delta("v1", 6, ["a"], p0=0))
    made.ranking(12.0, "v1", 6)
    made.delta(delta("v1", 7, ["a"], p1=9))
    made.example(1, 8, example(1, "a", 99.0, outcome=None))
    made.ranking(12.5, "v1", 7)
    assert waits(made) == (None, None)
    made.delta(delta("v1", 8, ["a"], p0=1))
    made.ranking(13.0, "v1", 8)
    assert waits(made) == (3.0, None)


def test_a_delta_for_another_version_does_not_count() -> None:
    """Its sequence may be below that of the ranking's own last delta all the same."""
    made = one_click()
    made.manifest("v2", {})
    made.delta(delta("v1", 5, ["a"], p0=1))
    made.delta(delta("v2", 6, ["b"], p0=1))
    made.ranking(11.0, "v2", 6)
    assert waits(made) == (None, None)


def test_a_bundle_counts_for_both() -> None:
    """The first ranking by a version that had read the example has it in its rows and in its dense weights."""
    made = one_click()
    made.ranking(10.5, "v1", 0)
    made.manifest("v2", {"examples-0": 0})
    made.ranking(12.0, "v2", 0)
    assert waits(made) == (None, None)
    made.manifest("v3", {"examples-0": 1})
    made.ranking(14.0, "v3", 0)
    assert waits(made) == (4.0, 4.0)


def test_a_delta_before_the_bundle_keeps_its_time() -> None:
    """Only the dense weights wait for the bundle."""
    made = one_click()
    made.delta(delta("v1", 5, ["a"], p0=1))
    made.ranking(11.0, "v1", 5)
    made.manifest("v2", {"examples-0": 1})
    made.ranking(14.0, "v2", 0)
    assert waits(made) == (1.0, 4.0)


def test_what_is_no_event_to_wait_for() -> None:
    """An example without an outcome, and one that came again, which is not learned from again."""
    made = one_click()
    made.example(0, 1, example(0, "a", 10.0))
    made.example(0, 2, example(2, "a", 10.0, outcome=None))
    assert made.report().events == 1
    assert made.waiting() == 1


def test_a_ranking_waits_for_the_records_that_its_weights_come_from() -> None:
    """The time is that of the ranking, not of the record that was read late; manifests are asked for by name."""
    made = Freshness()
    made.ranking(10.5, "v1", 0)
    made.ranking(11.5, "v1", 5)
    assert made.unknown == ["v1"]
    made.manifest("v1", {})
    assert made.unknown == []
    made.delta(delta("v1", 5, ["a"], p0=1))
    assert made.report().events == 0
    made.example(0, 0, example(0, "a", 10.0))
    assert waits(made) == (1.5, None)


def test_examples_before_the_start_are_not_waited_for() -> None:
    """A reader that joins a running system says where it begins."""
    made = Freshness({"examples-0": 700})
    made.manifest("v1", {"examples-0": 700})
    made.ranking(9.0, "v1", 0)
    made.example(0, 700, example(0, "a", 10.0))
    made.manifest("v2", {"examples-0": 701})
    made.ranking(12.0, "v2", 0)
    assert waits(made) == (2.0, 2.0)


def test_a_report_is_of_the_events_of_its_time() -> None:
    """An event of the end is not left out because nothing has learned from it: it is counted as never learned."""
    made = one_click()
    made.example(0, 1, example(1, "a", 20.0))
    made.delta(delta("v1", 5, ["a"], p0=1))
    made.ranking(11.0, "v1", 5)
    assert made.report(until=20.0).never_in_delta == 0
    late = made.report(since=20.0)
    assert (late.events, late.never_in_delta, late.never_in_dense) == (1, 1, 1)
    assert late.delta_s == Percentiles(None, None, 0)
    assert (made.waiting(since=20.0), made.waiting(until=20.0)) == (1, 1)


class World:
    """A made-up run: who clicked what, what was learned when, and what ranked. `truth` looks everything up."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.examples: list[tuple[int, int, Example]] = []
        self.deltas: list[ModelDelta] = []
        self.manifests: dict[str, dict[str, int]] = {"v0": {}}
        self.rankings: list[tuple[float, str, int]] = []
        ends, model, newest = [0, 0], "v0", 0
        for step in range(1, 40):
            ts = float(step)
            what = rng.random()
            if what < 0.5:
                partition = rng.randrange(2)
                made = example(step, rng.choice("abc"), ts)
                self.examples.append((partition, ends[partition], made))
                ends[partition] += 1
            elif what < 0.65:
                names = rng.sample("abc", rng.randrange(1, 3))
                self.deltas.append(delta(model, step, names, p0=rng.randint(0, ends[0]), p1=rng.randint(0, ends[1])))
                newest = step
            elif what < 0.72:
                model, newest = f"v{step}", 0
                self.manifests[model] = {f"examples-{at}": rng.randint(0, end) for at, end in enumerate(ends)}
            else:
                self.rankings.append((ts, model, newest))

    def truth(self) -> list[tuple[float | None, float | None]]:
        """For each example the seconds to a delta and to dense weights, looked up in every ranking."""
        found = []
        for partition, offset, one in self.examples:
            name = f"examples-{partition}"
            dense = [at for at, model, _ in self.rankings if offset < self.manifests[model].get(name, 0)]
            rows = [
                at
                for at, model, applied in self.rankings
                for each in self.deltas
                if each.base == model and each.sequence <= applied and offset < each.offsets[name]
                if str(hash_id(one.outcome.item_id)) in each.rows
            ]
            ts = one.ts / SECOND
            first = min([*rows, *dense], default=None)
            found.append((None if first is None else first - ts, min(dense) - ts if dense else None))
        return found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_join_is_the_truth_in_whatever_order_topics_come(seed: int, rng: random.Random) -> None:
    """Each topic keeps its own order; how they interleave changes nothing."""
    world, made = World(seed), Freshness()
    queues: list[list[Callable[[], None]]] = [
        [lambda one=one: made.example(*one) for one in world.examples if one[0] == partition] for partition in range(2)
    ]
    queues.append([lambda one=one: made.delta(one) for one in world.deltas])
    queues.append([lambda one=one: made.manifest(*one) for one in world.manifests.items()])
    queues.append([lambda one=one: made.ranking(*one) for one in world.rankings])
    while any(queues):
        rng.choice([queue for queue in queues if queue]).pop(0)()
    truth = world.truth()
    for one, (in_delta, in_dense) in zip(world.examples, truth, strict=True):
        ts = one[2].ts / SECOND
        report = made.report(ts, ts + 0.5)
        assert (report.delta_s.p50, report.dense_s.p50) == (in_delta, in_dense)
    assert made.waiting() == sum(None in pair for pair in truth)
