"""Who gets a canary, and the sequential test that ends it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ranker.rollout.canary import Comparison, Criteria, Measured, decide_canary, takes_part

USERS = [f"user-{number}" for number in range(4000)]


@given(st.floats(0, 1))
def test_the_share_is_kept(share: float) -> None:
    """By hash, to sampling error, and the same users each time."""
    chosen = [user for user in USERS if takes_part(user, "v1", share)]
    assert abs(len(chosen) / len(USERS) - share) < 0.04
    assert chosen == [user for user in USERS if takes_part(user, "v1", share)]


def test_a_larger_share_keeps_its_users_and_the_next_version_takes_others() -> None:
    """Nobody goes back and forth while a share grows, and nobody is in every canary."""
    small = {user for user in USERS if takes_part(user, "v1", 0.1)}
    assert small <= {user for user in USERS if takes_part(user, "v1", 0.3)}
    assert len(small & {user for user in USERS if takes_part(user, "v2", 0.1)}) < len(small) / 2


def run(canary: float, current: float, seed: int, clicks: int = 3000) -> tuple[bool | None, int]:
    """Lists that all draw a click, at rank 1 with these chances, else at rank 4: what is decided, after how many."""
    rng, compared, criteria = random.Random(seed), Comparison(), Criteria()
    for number in range(clicks):
        on_canary = rng.random() < 0.5
        hit = rng.random() < (canary if on_canary else current)
        compared = compared.clicked(1.0 if hit else 0.25, on_canary).closed(True, on_canary)
        decision = decide_canary(compared, criteria)
        if decision.promote is not None:
            return decision.promote, number + 1
    return None, clicks


def run_lists(canary: float, current: float, seed: int, lists: int = 6000) -> tuple[bool | None, str]:
    """Lists that draw a click with these chances, on the same ranks: what is decided."""
    rng, compared, criteria = random.Random(seed), Comparison(), Criteria(margin=0.1, fewer=0.25)
    for number in range(lists):
        on_canary = rng.random() < 0.5
        drew = rng.random() < (canary if on_canary else current)
        if drew:
            compared = compared.clicked(1 / rng.randint(1, 5), on_canary)
        compared = compared.closed(drew, on_canary)
        decision = decide_canary(compared, criteria) if number % 20 == 0 else None
        if decision is not None and decision.promote is not None:
            return decision.promote, decision.reason
    return None, ""


def test_a_worse_one_is_rolled_back_and_a_better_one_promoted() -> None:
    """The clearer the difference, the sooner."""
    worse = [run(0.3, 0.6, seed) for seed in range(20)]
    assert {promote for promote, _ in worse} == {False}
    assert {promote for promote, _ in (run(0.6, 0.3, seed) for seed in range(20))} == {True}
    assert max(run(0.05, 0.9, seed)[1] for seed in range(20)) < min(after for _, after in worse) + 100


def test_looking_after_every_click_does_not_roll_back_what_is_no_worse() -> None:
    """The point of a test that holds at every moment: of equal versions at most alpha are ever called worse."""
    wrong = sum(run(0.5, 0.5, seed, clicks=1500)[0] is False for seed in range(100))
    assert wrong <= 5


def test_one_that_halves_clicks_is_rolled_back() -> None:
    """Though what is still clicked stands where it stood; an equal one is promoted, and one with more clicks too."""
    halved = [run_lists(0.2, 0.4, seed) for seed in range(10)]
    assert {promote for promote, _ in halved} == {False}
    assert all("clicks per list 0.2" in reason or "clicks per list 0.1" in reason for _, reason in halved)
    equal = [run_lists(0.4, 0.4, seed)[0] for seed in range(10)]
    assert equal.count(False) == 0
    assert equal.count(True) >= 8
    assert {run_lists(0.5, 0.4, seed)[0] for seed in range(5)} == {True}


def test_ranks_alone_promote_nothing() -> None:
    """Nor do lists alone: a decision for a canary needs both, one against it either."""
    ranks, lists = Comparison(), Comparison()
    for number in range(2000):
        ranks = ranks.clicked(1.0 if number % 3 else 0.9, bool(number % 2))
        lists = lists.closed(number % 3 > 0, bool(number % 2))
    assert decide_canary(ranks, Criteria()).promote is None
    assert decide_canary(lists, Criteria()).promote is None
    for number in range(2000):
        ranks = ranks.closed(bool(number % 2), bool(number % 2))
        lists = lists.clicked(0.1 + 0.9 * (number % 2), not number % 2)
    assert decide_canary(ranks, Criteria()).promote is True
    assert decide_canary(lists, Criteria()).promote is False


def test_the_interval_holds_at_every_moment() -> None:
    """It covers the true difference at all moments together, in at least 95 of 100 runs."""
    missed = 0
    for seed in range(100):
        rng, compared = random.Random(seed), Measured()
        outside = False
        for number in range(1500):
            on_canary = rng.random() < 0.3
            compared = compared.plus(1.0 if rng.random() < (0.4 if on_canary else 0.5) else 0.25, on_canary)
            if number % 10 == 0 and compared.canary.count >= 20:
                low, high = compared.interval(0.05)
                outside = outside or not low <= -0.075 <= high
        missed += outside
    assert missed <= 5


def test_a_few_equal_clicks_decide_nothing() -> None:
    """Without variance in what was seen there is still doubt."""
    compared = Comparison()
    for number in range(40):
        compared = compared.clicked(1.0 if number % 2 else 0.9, bool(number % 2)).closed(True, bool(number % 2))
    assert decide_canary(compared, Criteria(least=10, margin=0.0)).promote is None
    assert decide_canary(Comparison(), Criteria(least=0)).promote is None
