"""The fold of `model-updates`: what serves, what may be rolled back to, and which of two decisions counts."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from ranker.contracts.records import ModelUpdate
from ranker.rollout.stages import CANARY, PINNED, PROMOTED, ROLLED_BACK, Stages, follow, key_of, stage_of


def update(version: str, stage: str, **more: object) -> ModelUpdate:
    """A record."""
    return ModelUpdate(model="m", version=version, sha256="", stage=stage, **more)


def folded(*updates: ModelUpdate) -> Stages:
    """The stages after these records."""
    return reduce(follow, updates, Stages())


def test_what_is_promoted_serves_and_what_served_is_kept() -> None:
    """Also when it is named twice."""
    stages = folded(update("a", PROMOTED), update("b", PROMOTED), update("b", PROMOTED))
    assert (stages.serving, stages.previous) == ("b", "a")


def test_a_pin_says_so() -> None:
    """Until something is promoted."""
    assert stage_of("a", folded(update("a", PINNED))) == PINNED
    assert not folded(update("a", PINNED), update("b", PROMOTED)).pinned


def test_of_two_decisions_about_a_canary_the_first_counts() -> None:
    """Whichever way they go, workers that disagree end up serving the same."""
    begun = [update("a", PROMOTED), update("c", CANARY, share=0.1)]
    up = update("c", PROMOTED, measured=True, previous="a")
    down = update("c", ROLLED_BACK, measured=True, previous="a")
    assert folded(*begun, up, down).serving == "c"
    late = folded(*begun, down, up)
    assert (late.serving, late.canary, late.rolled_back) == ("a", None, "c")


def test_an_operator_may_promote_what_was_rolled_back() -> None:
    """It was no decision by clicks."""
    stages = folded(update("a", PROMOTED), update("c", CANARY), update("c", ROLLED_BACK), update("c", PROMOTED))
    assert (stages.serving, stages.rolled_back) == ("c", None)


def test_a_canary_that_is_tried_again_is_judged_anew() -> None:
    """It failed once; announced again, its clicks may promote it, for all records and for those that are left."""
    up = update("c", PROMOTED, measured=True, previous="a")
    down = update("c", ROLLED_BACK, measured=True, previous="a")
    again = [update("a", PROMOTED), update("c", CANARY), down, update("c", CANARY, share=0.2), up]
    assert folded(*again).serving == "c"
    assert folded(*again, down).serving == "c"
    compacted = list({key_of(record): record for record in again}.values())
    assert folded(*compacted).serving == "c"


STAGES = st.sampled_from([PROMOTED, PINNED, CANARY, ROLLED_BACK])


@given(st.lists(st.tuples(st.sampled_from("abc"), STAGES), min_size=1, max_size=8), st.data())
def test_a_record_that_comes_twice_is_followed_once(records: list[tuple[str, str]], data: st.DataObject) -> None:
    """A producer's retry, after whatever came in between, undoes nothing of it."""
    written = [update(version, stage, ts=at) for at, (version, stage) in enumerate(records, 1)]
    twice = data.draw(st.integers(0, len(written) - 1))
    later = data.draw(st.integers(twice + 1, len(written)))
    retried = [*written[:later], written[twice], *written[later:]]
    assert folded(*retried) == folded(*written)


@given(st.lists(st.tuples(st.sampled_from("abc"), STAGES, st.booleans()), max_size=12))
def test_compaction_changes_nothing_that_serves(history: list[tuple[str, str, bool]]) -> None:
    """A worker that reads only the newest record of each key serves the same as one that read all of them.

    Records are what workers and operators would write: `previous` names what serves as a record is written, and clicks
    decide about a canary alone.
    """
    full = folded(update("a", PROMOTED))
    written = [update("a", PROMOTED)]
    for version, stage, measured in history:
        if measured and (stage not in (PROMOTED, ROLLED_BACK) or full.canary != version or full.serving == version):
            continue
        if stage == CANARY and version == full.serving:
            continue
        record = update(version, stage, measured=measured, previous=full.serving)
        written.append(record)
        full = follow(full, record)
    compacted = {key_of(record): (number, record) for number, record in enumerate(written)}
    kept = [record for _, record in sorted(compacted.values(), key=lambda entry: entry[0])]
    assert folded(*kept).serving == full.serving
