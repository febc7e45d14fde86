"""A worker is alive while its loop answers and inputs move."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.telemetry import health
from streams.telemetry.health import STILL_S, Doing, Health


async def dead(asked: Health, now: float) -> str | None:
    """As the page asks: on a thread, while the loop goes on."""
    return await asyncio.to_thread(asked.dead, now)


async def test_inputs_that_wait_and_do_not_move() -> None:
    """Only what waits all the time, none of it handled, is a reason to start anew."""
    work = [Doing(5, True)]
    asked = Health(asyncio.get_running_loop())
    asked.follow(lambda: work[0], lambda: True)
    assert await dead(asked, 0.0) is None
    assert await dead(asked, STILL_S) is None
    assert "none has been handled for 61 s" in str(await dead(asked, STILL_S + 1))
    work[0] = Doing(6, True)
    assert await dead(asked, STILL_S + 2) is None
    work[0] = Doing(6, False)  # nothing waits, or the broker is away
    assert await dead(asked, 3 * STILL_S) is None
    work[0] = Doing(6, True)
    assert await dead(asked, 3 * STILL_S + 1) is None
    assert await dead(asked, 4 * STILL_S + 2) is not None


async def test_a_loop_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told from one that is idle."""
    monkeypatch.setattr(health, "LOOP_ANSWERS_S", 0.01)
    asked = Health(asyncio.get_running_loop())
    with ThreadPoolExecutor(1) as page:
        said = page.submit(asked.dead, 0.0).result()  # the loop is not given a turn
    assert "has not answered" in str(said)


async def test_ready_after_recovery_and_not_while_partitions_change_hands() -> None:
    """What it is busy with is the answer."""
    asked, serves = Health(asyncio.get_running_loop()), [True]
    asked.follow(lambda: Doing(0, False), lambda: serves[0])
    assert asked.not_ready() == "starting"
    asked.unready = None
    assert asked.not_ready() is None
    serves[0] = False
    assert "recovered" in str(asked.not_ready())
