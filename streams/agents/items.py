"""`items`: the catalogue's items; a tombstone withdraws one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def items(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Check each item and have its text encoded; every worker follows the topic for itself."""
    async for event in stream.noack().events():
        await receive(event.message)
