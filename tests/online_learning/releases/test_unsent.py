"""No row that moved is ever left out, whatever is sent in between, and stages follow the topic."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_learning.releases.plan import next_stage, prunable
from online_learning.releases.unsent import UnsentRows
from ranker.contracts.records import ModelUpdate
from ranker.registry.bundle import new_version
from ranker.rollout.stages import Stages, follow, key_of, stage_of

MOVES = st.lists(st.tuples(st.sets(st.integers(1, 30), min_size=1), st.integers(1, 5)), max_size=12)


@given(MOVES)
def test_every_version_hears_of_every_row(moves: list[tuple[set[int], int]]) -> None:
    """What was sent to a version since it began, and what still waits, are together the rows that moved since."""
    bases = UnsentRows()
    bases.add("a")
    sent: dict[str, set[int]] = {"a": set(), "b": set()}
    moved: dict[str, set[int]] = {"a": set(), "b": set()}
    for number, (rows, most) in enumerate(moves):
        if number == 3:
            bases.add("b")
        bases.move(np.array(sorted(rows)), 0.5)
        for version in bases.versions:
            moved[version] |= rows
            taken = bases.take(version, most).tolist()
            assert len(taken) <= most
            sent[version] |= set(taken)
    for version in bases.versions:
        waiting = set(bases.take(version, 1000).tolist())
        assert sent[version] | waiting == moved[version]


def test_what_moved_most_goes_first() -> None:
    """And what is sent moves no more."""
    bases = UnsentRows()
    bases.add("a")
    bases.move(np.array([3, 5, 7, 9]), np.array([0.1, 0.4, 0.2, 0.3], np.float32))
    assert bases.take("a", 2).tolist() == [5, 9]
    assert bases.take("a", 9).tolist() == [7, 3]
    assert bases.waiting("a") == 0


def update(version: str, stage: str) -> ModelUpdate:
    """A record of the topic."""
    return ModelUpdate(model="default", version=version, sha256="", stage=stage)


def test_stages_follow_the_topic() -> None:
    """A canary changes nothing for what serves, and is gone once it serves or failed."""
    stages = Stages()
    for one in (update("1", "promoted"), update("2", "canary")):
        stages = follow(stages, one)
    assert (stages.serving, stages.canary) == ("1", "2")
    assert next_stage(stages, 0.1) is None
    failed = follow(stages, update("2", "rolled-back"))
    assert (failed.serving, failed.canary, stage_of("2", failed)) == ("1", None, "rolled-back")
    promoted = follow(stages, update("2", "promoted"))
    assert (promoted.serving, promoted.previous, promoted.canary) == ("2", "1", None)
    assert next_stage(promoted, 0.1) == "canary"
    assert next_stage(promoted, 0.0) == "promoted"
    pinned = follow(promoted, update("1", "pinned"))
    assert (stage_of("1", pinned), next_stage(pinned, 0.0)) == ("pinned", None)


def test_compaction_keeps_both_what_serves_and_the_canary() -> None:
    """They have different keys, so the newest record of each key tells the same as all of them."""
    updates = [update("1", "promoted"), update("2", "canary"), update("2", "rolled-back"), update("3", "canary")]
    compacted = {key_of(one): one for one in updates}
    stages = compact = Stages()
    for one in updates:
        stages = follow(stages, one)
    for one in compacted.values():
        compact = follow(compact, one)
    assert (compact.serving, compact.canary) == (stages.serving, stages.canary) == ("1", "3")


@given(st.lists(st.integers(0, 40), unique=True), st.integers(0, 6), st.data())
def test_nothing_that_serves_is_pruned(numbers: list[int], keep: int, data: st.DataObject) -> None:
    """Nor what served before, a canary, the newest ones, or what is protected."""
    versions = [f"{number:02d}" for number in sorted(numbers)]
    some = st.none() | st.sampled_from(versions) if versions else st.none()
    stages = Stages(serving=data.draw(some), previous=data.draw(some), canary=data.draw(some))
    gone = prunable(versions, stages, keep, {"00"})
    assert not {stages.serving, stages.previous, stages.canary, "00", *versions[-1:]} & set(gone)
    assert not set(versions[-keep:] if keep else ()) & set(gone)
    assert len(versions) - len(gone) <= max(keep, 1) + 4


def test_the_newest_of_each_hour_is_kept_for_a_day() -> None:
    """With a version every five minutes, a rollback may still go back by hours; in all they are bounded."""
    start = 1_699_999_200_000  # a full hour
    versions = [new_version(start + minute * 60_000) for minute in range(0, 60 * 40, 5)]
    kept = [version for version in versions if version not in prunable(versions, Stages(), 3)]
    assert kept[-3:] == versions[-3:]
    hours = [version[: len("20261123T08")] for version in kept[:-3]]
    assert len(hours) == len(set(hours)) == 23
    for version, hour in zip(kept[:-3], hours, strict=True):
        assert version == max(other for other in versions if other.startswith(hour))
    assert prunable(kept, Stages(), 3) == []
