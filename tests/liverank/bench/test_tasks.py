"""Coroutines side by side: the main one's result, or the first error of any, and nothing goes on after either."""

from __future__ import annotations

import asyncio

import pytest

from liverank.bench.tasks import beside


async def test_the_result_ends_the_others() -> None:
    """What runs beside is cancelled, and has ended when the result is there."""
    ended = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main() -> int:
        await asyncio.sleep(0)
        return 7

    assert await beside(main(), other()) == 7
    assert ended == [True]


async def test_an_error_beside_ends_the_main_one() -> None:
    """It is raised as it is, rather than waited for."""

    async def other() -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        await beside(asyncio.Event().wait(), other())
