"""`erasures`: users to forget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def erasures(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Drop what is known of each user up to the record's time."""
    async for event in stream.noack().events():
        await receive(event.message)
