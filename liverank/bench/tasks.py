"""Coroutines side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def beside(main: Coroutine[Any, Any, _Result], *others: Coroutine[Any, Any, None]) -> _Result:
    """Run one coroutine to its end while others run; the first error of any ends all of them and is raised as it is.

    Args:
        main: gives the result.
        others: are cancelled when it is there; they must not end before.
    """
    first = asyncio.create_task(main)
    tasks: list[asyncio.Task[Any]] = [first, *(asyncio.create_task(other) for other in others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return await first
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
