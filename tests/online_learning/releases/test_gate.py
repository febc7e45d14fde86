"""The gate lets through what is sound and no worse, and says why not otherwise."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.releases.compared import FEWEST_USERS, Compared, Newest
from online_learning.releases.drift import DriftAlarm
from online_learning.releases.gate import Evidence, GateRules, Promote, Reject, decide_release

RULES = GateRules(least=30, margin=0.05)


def compared(ours: list[int], theirs: list[int], users: int | None = None) -> Compared:
    """Ranks of so many users in turn; of two lists each where None."""
    found = Compared()
    for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        found = found.plus(1 / mine - 1 / other, at % (users or max(2, len(ours) // 2)))
    return found


def evidence(candidate: list[int], serving: list[int], **changes: object) -> Evidence:
    """Against what serves alone."""
    return msgspec.structs.replace(Evidence(serving=compared(candidate, serving)), **changes)


def test_equal_and_better_are_promoted() -> None:
    """Not worse is enough."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 10, 200).tolist()
    assert isinstance(decide_release(evidence(ranks, ranks), RULES), Promote)
    better = decide_release(evidence([max(1, rank - 3) for rank in ranks], ranks), RULES)
    assert isinstance(better, Promote)
    assert better.low > 0
    assert better.queries == 200


def test_worse_is_refused_with_its_numbers() -> None:
    """A certain loss is refused however small, one beyond the margin however uncertain."""
    slightly = decide_release(evidence([2, 3] * 1500, [2, 2] * 1500), GateRules(margin=9.0))
    assert isinstance(slightly, Reject)
    assert "on 3000 examples" in slightly.reason
    mostly_same = [50, 50, 50, *[1] * 37]
    uncertain = decide_release(evidence(mostly_same, [1] * 40), GateRules(margin=0.05))
    assert isinstance(uncertain, Reject)


@pytest.mark.parametrize("users", [1, FEWEST_USERS - 1, FEWEST_USERS])
def test_a_loss_of_a_few_users_is_no_evidence(users: int) -> None:
    """However many lists they had: it may be so of them alone."""
    found = Evidence(serving=compared([3, 2] * 300, [2, 2] * 300, users))
    verdict = decide_release(found, GateRules(margin=9.0))
    assert isinstance(verdict, Reject if users == FEWEST_USERS else Promote)


def test_what_is_worse_than_an_anchor_is_refused() -> None:
    """Though it is as good as what serves; the reason names the anchor. One that is only not better is none."""
    same = [2] * 100
    worse, equal = compared([4, 2] * 1000, [2, 2] * 1000), compared([2, 1, 2] * 700, [1, 2, 2] * 700)
    assert isinstance(decide_release(evidence(same, same, anchors={"old": equal}), RULES), Promote)
    verdict = decide_release(evidence(same, same, anchors={"old": equal, "older": worse}), RULES)
    assert isinstance(verdict, Reject)
    assert "that of older" in verdict.reason


def test_what_was_measured_long_ago_does_not_count() -> None:
    """A comparison is begun anew, and until it has something to say the one before stands."""
    newest = Newest(100)
    for number in range(100):
        newest.add(-0.5, number)
    assert newest.value.worse(0.05)
    newest.add(0.0, 1)
    assert newest.value.count == 100
    for number in range(60):
        newest.add(0.0, number)
    assert (newest.value.count, newest.value.mean) == (61, 0.0)
    newest.restart()
    assert newest.value.count == 0


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


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_bounds_hold_what_was_seen(differences: list[float]) -> None:
    """They lie around the mean, and are never wider than the range."""
    found = Compared()
    for at, difference in enumerate(differences):
        found = found.plus(difference, at)
    low, high = found.bounds(0.05)
    assert -1 <= low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= high <= 1
    assert found.count == len(differences)


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
