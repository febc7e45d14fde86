"""`views`: interactions whose action is implied, a view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def views(stream: Any, receive: Callable[[Any], Awaitable[None]]) -> None:
    """Fold each view into its user's row and rank the user's list anew."""
    async for event in stream.noack().events():
        await receive(event.message)
