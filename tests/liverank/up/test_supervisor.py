"""Supervision: who is started again, when, and what is said of it."""

from __future__ import annotations

import pytest

from liverank.up.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, Part, pause_s


class Program:
    """A process that ends when a test says so."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.stopped = False

    def ended(self) -> str | None:
        return self.why

    def stop(self) -> None:
        self.stopped = True


class FakeStarts:
    """Starts programs, and fails to where a test says so."""

    def __init__(self) -> None:
        self.made: list[Program] = []
        self.broken: Exception | None = None

    def __call__(self) -> Program:
        if self.broken is not None:
            raise self.broken
        self.made.append(Program())
        return self.made[-1]


def part(starts: FakeStarts) -> Part:
    """A part that is ready once it was started twice."""
    return Part("worker", starts, lambda: len(starts.made) > 1, 0.0)


def test_what_runs_is_left_alone() -> None:
    """Nothing is told, and nothing is started twice."""
    starts = FakeStarts()
    one = part(starts)
    assert [one.tend(float(now)) for now in range(100)] == [None] * 100
    assert len(starts.made) == 1
    assert one.state(5.0) == "starting"


def test_what_ends_is_started_again_and_says_why() -> None:
    """After its pause, not before."""
    starts = FakeStarts()
    one = part(starts)
    starts.made[0].why = "status 1: the disk is full"
    assert one.tend(10.0) == "worker ended (status 1: the disk is full); it is started again in 1 s"
    assert one.tend(10.0 + FIRST_PAUSE_S / 2) is None
    assert one.state(10.5) == "again in 0 s"
    assert one.tend(10.0 + FIRST_PAUSE_S) == "worker is started again"
    assert (one.state(12.0), one.attempt.restarts) == ("ready", 1)
    assert one.attempt.reason == "status 1: the disk is full"


def test_the_pause_grows_while_it_goes_on_ending_and_is_short_again_after_a_sound_run() -> None:
    """Twice as long each time, up to the longest."""
    starts, now, pauses = FakeStarts(), 0.0, []
    one = part(starts)
    for _ in range(9):
        starts.made[-1].why = "status 1: no"
        one.tend(now)
        assert one.attempt.again_at is not None
        pauses.append(one.attempt.again_at - now)
        now = one.attempt.again_at
        one.tend(now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    starts.made[-1].why = "status 1: after a day"
    one.tend(now + 86_400)
    assert one.attempt.again_at == now + 86_400 + FIRST_PAUSE_S


def test_a_start_that_fails_is_tried_again_too() -> None:
    """With the reason, and the same growing pause; nothing else stops for it."""
    starts = FakeStarts()
    one = part(starts)
    starts.made[0].why = "gone"
    one.tend(0.0)
    starts.broken = OSError("no room")
    assert one.tend(1.0) == "worker does not start (no room); it is tried again in 2 s"
    starts.broken = None
    assert one.tend(2.9) is None
    assert one.tend(3.0) == "worker is started again"


def test_it_is_stopped_once() -> None:
    """What runs is stopped; what does not is left alone."""
    starts = FakeStarts()
    one = part(starts)
    one.stop()
    one.stop()
    assert starts.made[0].stopped


@pytest.mark.parametrize(("failures", "pause"), [(1, FIRST_PAUSE_S), (2, 2 * FIRST_PAUSE_S), (500, LONGEST_PAUSE_S)])
def test_pauses(failures: int, pause: float) -> None:
    """Also after very many failures."""
    assert pause_s(failures) == pause
