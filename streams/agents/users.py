"""`users`: users' attributes; a tombstone clears them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def users(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Keep each user's newest attributes and rank the user's list anew."""
    async for event in stream.noack().events():
        await receive(event.message)
