"""The gate lets through what is sound and no worse, and says why not otherwise."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.releases.drift import DriftAlarm
from online_learning.releases.gate import FEWEST_USERS, Evidence, GateRules, Promote, Reject, decide_release

RULES = GateRules(least=30, margin=0.05)


def evidence(candidate: list[int], serving: list[int], **changes: object) -> Evidence:
    """Ranks of two users in turn."""
    users = np.arange(len(candidate)) % max(2, len(candidate) // 2)
    made = Evidence(candidate=np.array(candidate, np.int64), serving=np.array(serving, np.int64), users=users)
    return msgspec.structs.replace(made, **changes)


def test_equal_and_better_are_promoted() -> None:
    """Not worse is enough."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 10, 200).tolist()
    assert isinstance(decide_release(evidence(ranks, ranks), RULES), Promote)
    better = decide_release(evidence([max(1, rank - 1) for rank in ranks], ranks), RULES)
    assert isinstance(better, Promote)
    assert better.low > 0
    assert better.queries == 200


def test_worse_is_refused_with_its_numbers() -> None:
    """A significant loss is refused however small, one beyond the margin however uncertain."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 10, 500).tolist()
    slightly = decide_release(evidence([rank + 1 for rank in ranks], ranks), GateRules(margin=9.0))
    assert isinstance(slightly, Reject)
    assert "on 500 examples" in slightly.reason
    mostly_same = [50, 50, 50, *[1] * 37]
    uncertain = decide_release(evidence(mostly_same, [1] * 40), GateRules(margin=0.05))
    assert isinstance(uncertain, Reject)


@pytest.mark.parametrize(("users", "verdict"), [(1, Promote), (FEWEST_USERS - 1, Promote), (FEWEST_USERS, Reject)])
def test_a_small_loss_of_a_few_users_is_no_evidence(users: int, verdict: type) -> None:
    """However many lists they had: the interval is over users, and one user's is a single point below 0."""
    found = evidence([21] * 200, [20] * 200, users=np.arange(200) % users)
    assert isinstance(decide_release(found, RULES), verdict)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"golden": "score.onnx: logits is not what torch gave"}, "golden"),
        ({"finite": False}, "finite"),
        ({"drift": True}, "drifted"),
    ],
)
def test_what_is_unsound_is_refused_however_well_it_ranks(changes: dict[str, object], word: str) -> None:
    """Each reason by itself, on evidence that would be promoted without it."""
    verdict = decide_release(evidence([1] * 50, [3] * 50, **changes), RULES)
    assert isinstance(verdict, Reject)
    assert word in verdict.reason


def test_too_few_examples_decide_nothing() -> None:
    """Unless none are asked for."""
    verdict = decide_release(evidence([1] * 29, [1] * 29), RULES)
    assert isinstance(verdict, Reject)
    assert "30 are needed" in verdict.reason
    assert isinstance(decide_release(evidence([], []), GateRules(least=0)), Promote)


@given(st.lists(st.integers(1, 40), min_size=30, max_size=60), st.integers(0, 5))
def test_it_is_a_function_of_its_arguments(ranks: list[int], seed: int) -> None:
    """The same evidence and seed give the same verdict, and leave the evidence alone."""
    given_ = evidence(ranks, ranks[::-1])
    before = given_.candidate.copy(), given_.serving.copy(), given_.users.copy()
    assert decide_release(given_, RULES, seed) == decide_release(given_, RULES, seed)
    for array, copy in zip((given_.candidate, given_.serving, given_.users), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_alarm_is_for_getting_worse_alone() -> None:
    """A rise raises it, a fall does not; it lasts as long as it is told to."""
    rng = np.random.default_rng(0)
    rising, falling = DriftAlarm(hold=5), DriftAlarm(hold=5)
    rose = fell = False
    for number in range(800):
        step = 0.5 if number >= 400 else 0.0
        rose |= rising.update(rng.normal(step, 0.1))
        fell |= falling.update(rng.normal(-step, 0.1))
    assert rose
    assert not fell
    alarm = DriftAlarm(hold=3)
    number = 0
    while not alarm.update(rng.normal(0.0 if number < 300 else 1.0, 0.05)):
        number += 1
    assert alarm.raised
    for _ in range(3):
        alarm.update(1.0)
    alarm.restart()
    assert not alarm.raised
