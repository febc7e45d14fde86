"""The micro-batcher: who is scored when, and what may count as done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from streams.pipeline.batcher import Batcher


class Scorer:
    """Work that waits until a test lets it go on."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    def __call__(self, batch: Sequence[str]) -> None:
        self.batches.append(list(batch))
        self.begun.set()
        assert self.open.wait(10)

    async def busy(self, batcher: Batcher[str]) -> None:
        """Keep it at work on one batch."""
        self.open.clear()
        self.begun.clear()
        batcher.add(b"first", "first")
        await asyncio.to_thread(self.begun.wait, 10)


def make(scorer: Scorer, size: int = 2) -> tuple[Batcher[str], list[BaseException]]:
    """A batcher, and the list of what it reports as failed."""
    errors: list[BaseException] = []
    return Batcher(scorer, size, errors.append), errors


async def test_what_arrives_together_is_scored_together() -> None:
    """An idle scorer takes at once all that came in one turn of the loop."""
    scorer = Scorer()
    batcher, _ = make(scorer)
    batcher.add(b"a", "a")
    batcher.add(b"b", "b")
    await batcher.settled()
    assert scorer.batches == [["a", "b"]]


async def test_who_waits_while_the_scorer_works_is_scored_next_in_full_batches() -> None:
    """No batch is larger than asked for, and none waits for a timer."""
    scorer = Scorer()
    batcher, _ = make(scorer)
    await scorer.busy(batcher)
    for name in ("a", "b", "c"):
        batcher.add(name.encode(), name)
    scorer.open.set()
    await batcher.settled()
    assert scorer.batches == [["first"], ["a", "b"], ["c"]]


async def test_a_users_newest_work_takes_the_place_in_line_of_the_older() -> None:
    """Several events of a user give one ranking, of the newest, as early as the first would have had it."""
    scorer = Scorer()
    batcher, _ = make(scorer, size=1)
    await scorer.busy(batcher)
    batcher.add(b"a", "a1")
    batcher.add(b"b", "b1")
    batcher.add(b"a", "a2")
    scorer.open.set()
    await batcher.settled()
    assert scorer.batches == [["first"], ["a2"], ["b1"]]


async def test_settled_waits_for_what_was_queued_before_and_for_nothing_after() -> None:
    """A checkpoint under load ends, although new work keeps coming."""
    scorer = Scorer()
    batcher, _ = make(scorer, size=1)
    await scorer.busy(batcher)
    batcher.add(b"a", "a")
    settled = asyncio.ensure_future(batcher.settled())
    await asyncio.sleep(0)
    batcher.add(b"later", "later")
    assert not settled.done()

    def count_down(batch: Sequence[str]) -> None:
        scorer.batches.append(list(batch))
        if batch == ["later"]:
            assert stuck.wait(10)

    stuck = threading.Event()
    batcher._run = count_down
    scorer.open.set()
    await asyncio.wait_for(settled, 10)
    stuck.set()
    await batcher.settled()
    assert scorer.batches[-1] == ["later"]


async def test_work_replaced_while_settling_still_settles() -> None:
    """The newer row's ranking covers the older one's event."""
    scorer = Scorer()
    batcher, _ = make(scorer)
    await scorer.busy(batcher)
    batcher.add(b"a", "a1")
    settled = asyncio.ensure_future(batcher.settled())
    await asyncio.sleep(0)
    batcher.add(b"a", "a2")
    scorer.open.set()
    await asyncio.wait_for(settled, 10)
    assert ["a2"] in scorer.batches


async def test_discarded_work_is_not_done_and_not_waited_for() -> None:
    """What waits for a forgotten user goes."""
    scorer = Scorer()
    batcher, _ = make(scorer)
    await scorer.busy(batcher)
    batcher.add(b"a", "a")
    batcher.discard(b"a")
    scorer.open.set()
    await asyncio.wait_for(batcher.settled(), 10)
    assert scorer.batches == [["first"]]


async def test_intake_waits_while_much_is_queued() -> None:
    """Memory is bounded: four batches may wait."""
    scorer = Scorer()
    batcher, _ = make(scorer, size=2)
    await scorer.busy(batcher)
    for number in range(8):
        assert not batcher.full
        batcher.add(b"%d" % number, str(number))
    assert batcher.full
    scorer.open.set()
    await asyncio.wait_for(batcher.room(), 10)
    await batcher.settled()
    assert not batcher.full


async def test_failed_work_is_told_and_never_counts_as_done() -> None:
    """A checkpoint that waits for it must not go on to commit."""

    def fail(batch: Sequence[str]) -> None:
        raise ZeroDivisionError

    errors: list[BaseException] = []
    batcher: Batcher[str] = Batcher(fail, 2, errors.append)
    batcher.add(b"a", "a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batcher.settled(), 0.2)
    assert [type(error) for error in errors] == [ZeroDivisionError]
