"""The trainer on a simulated clock: what it hears when, and that nothing of the future reaches a rank."""

from __future__ import annotations

import msgspec
import numpy as np
import torch

from online_learning.data.recall import CountRecall
from online_learning.evaluation.metrics import NOT_FOUND
from online_learning.simulation.next_items import Simulation, simulate
from ranker.contracts.records import Interaction
from tests.support import stream

torch.set_num_threads(1)

ITEMS, TEST = 12, stream.START + 1_000_000


def sessions(count: int, step: int, begin: int, *, seed: int) -> list[Interaction]:
    """So many sessions of three clicks, a minute from one session to the next: each goes from an item by `step`."""
    made = []
    for number in range(count):
        for at in range(3):
            item = (number * 5 + at * step) % ITEMS
            made.append(
                Interaction(
                    user_id=f"s{seed}-{number}", item_id=f"item-{item}", action="click",
                    event_id=f"s{seed}-{number}-{at}", ts=begin + 60_000 * number + 1000 * at,
                )
            )  # fmt: skip
    return made


def simulation(sync_ms: int | None) -> Simulation:
    """A small trainer with lists of four items: the user's own two, and what the counts name."""
    online = stream.online(delta_ms=sync_ms or 1000, bundle_ms=10_000_000)
    return Simulation(stream.origin(), stream.RECIPE, online, CountRecall(4), sync_ms)


def test_frozen_learns_nothing_and_online_hears_of_what_is_new() -> None:
    """A way through the shop that nobody went before the start is listed after a sync, and never without one."""
    log = [*sessions(12, 1, stream.START, seed=0), *sessions(40, 5, TEST, seed=1)]
    frozen, online = simulation(None), simulation(10_000)
    never, learned = (simulate(log, one, TEST, None) for one in (frozen, online))
    assert len(never) == len(learned) == 80
    assert frozen.trainer.trained == 0
    assert not frozen.trainer.learner.tables.statistics.any()
    assert (never == NOT_FOUND).all()
    assert (learned[-40:] != NOT_FOUND).mean() > 0.8
    assert online.trainer.trained > 0


def test_what_is_heard_is_as_old_as_the_sync() -> None:
    """With a sync at each full hour, queries before the first one are ranked by a model that heard nothing."""
    log, hour = sessions(100, 5, TEST, seed=1), 3_600_000
    hourly = simulate(log, simulation(hour), TEST, None)
    asked = np.array([event.ts for event in log if not event.event_id.endswith("-0")])
    before = asked < TEST + -TEST % hour
    assert before.any()
    assert (hourly[before] == NOT_FOUND).all()
    assert (hourly[~before] != NOT_FOUND).mean() > 0.8


def test_what_comes_later_changes_no_rank() -> None:
    """The ranks of a log's beginning are the same, whatever the rest of it is."""
    log = sessions(40, 5, TEST, seed=1)
    cut = 75
    other = [msgspec.structs.replace(event, item_id=f"other-{at % 7}") for at, event in enumerate(log[cut:])]
    ranks, changed = (simulate(some, simulation(10_000), TEST, None) for some in (log, [*log[:cut], *other]))
    asked = 2 * cut // 3
    np.testing.assert_array_equal(ranks[:asked], changed[:asked])
    assert (ranks[asked:] != changed[asked:]).any()
