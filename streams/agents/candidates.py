"""`candidates`: the lists to re-rank."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def candidates(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Make each list its user's current one and rank it."""
    async for event in stream.noack().events():
        await receive(event.message)
