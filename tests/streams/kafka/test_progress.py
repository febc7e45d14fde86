"""What may be committed: no further than what is held, whatever was handled after it."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.progress import Hold, PartitionProgress

PLACE = ("interactions", 0)


def handled(progress: PartitionProgress, offset: int, *, held: bool = False) -> Hold | None:
    """A record is handled, or waits for something."""
    hold = progress.hold(PLACE, offset) if held else None
    progress.done(PLACE, offset)
    return hold


def test_a_held_record_is_not_committed_and_those_after_it_are_handled() -> None:
    """The partition is committed up to it, and to the end once it is released, without another record."""
    progress = PartitionProgress()
    progress.start({PLACE: 5})
    hold = handled(progress, 5, held=True)
    handled(progress, 6)
    assert progress.expected(PLACE) == 7
    assert progress.take() == {PLACE: 5}
    assert not progress.changed
    assert hold is not None
    progress.release(hold)
    assert progress.changed
    assert progress.take() == {PLACE: 7}


def test_what_was_held_is_not_once_partitions_left() -> None:
    """A partition that comes back, or another one of its name, knows nothing of it, not even at the same offset."""
    for let_go in (PartitionProgress.clear, lambda progress: progress.restart(PLACE)):
        progress = PartitionProgress()
        progress.start({PLACE: 0})
        before = handled(progress, 0, held=True)
        let_go(progress)
        progress.start({PLACE: 0})
        again = handled(progress, 0, held=True)
        assert before is not None
        assert again is not None
        assert not progress.holds(before)
        assert progress.holds(again)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.randoms())
def test_committed_is_what_comes_before_the_first_that_is_held(held: list[bool], random: Random) -> None:
    """Released in any order: never beyond what still waits, and all of it in the end."""
    progress = PartitionProgress()
    progress.start({PLACE: 0})
    holds = [handled(progress, offset, held=waits) for offset, waits in enumerate(held)]
    waiting = [hold for hold in holds if hold is not None]
    random.shuffle(waiting)
    committed = progress.take()[PLACE]
    while waiting:
        assert committed == min(hold.offset for hold in waiting)
        progress.release(waiting.pop())
        committed = progress.take()[PLACE]
    assert committed == len(held)
