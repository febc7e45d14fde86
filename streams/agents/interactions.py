"""`interactions`: what users did with items, each record naming its action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def interactions(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Fold each interaction into its user's row and rank the user's list anew."""
    async for event in stream.noack().events():
        await receive(event.message)
