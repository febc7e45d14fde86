"""What goes on beside rankings pauses for the processor time that it took, and for nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from streams.models.pacing import PAUSE_S, PAUSES, Pace


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, none of which is waited for."""
    made: list[float] = []
    monkeypatch.setattr("streams.models.pacing.time.sleep", made.append)
    return made


def compute(seconds: float) -> None:
    """Take processor time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_piece_is_followed_by_some_times_what_it_took(pauses: list[float]) -> None:
    """Up to a tenth of a second, however long it was; between pieces nothing adds up."""
    pace = Pace(PAUSES)
    for seconds in (0.005, 0.01, 0.1):
        compute(seconds)
        pace.rest()
    assert PAUSES * 0.005 <= pauses[0] < PAUSES * 0.01 <= pauses[1] < pauses[2] == 0.1


def test_what_was_waited_for_is_no_reason_to_pause(pauses: list[float]) -> None:
    """A core that others have, a disk: a load must not be put off because it is put off."""
    pace = Pace(PAUSES)
    threading.Event().wait(0.1)
    pace.rest()
    assert pauses == [PAUSE_S]


def test_without_pauses_there_are_none(pauses: list[float]) -> None:
    """A first version, behind which nobody waits."""
    pace = Pace(0.0)
    compute(0.001)
    pace.rest()
    assert not pauses
