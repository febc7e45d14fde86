"""Server-sent events, and who they go to."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

#: A comment, which keeps what stands between from taking a quiet stream for a dead one.
NOTHING_NEW = b": nothing new\n\n"


def server_sent(name: str, content: Any) -> bytes:
    """One event, its content as JSON on one line; JSON has no line breaks but between its values."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(content))


class Told:
    """The newest event of each name, for any number of readers: whoever is slow gets the newest and not all."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._turn = 0
        self._changed = asyncio.Condition()

    async def tell(self, name: str, content: Any) -> None:
        """Something is new."""
        async with self._changed:
            self._turn += 1
            self._newest[name] = self._turn, server_sent(name, content)
            self._changed.notify_all()

    async def after(self, turn: int, within_s: float) -> tuple[int, bytes]:
        """What is newer than a turn, waiting for it if need be, and the turn to go on from; a comment after a while.

        Args:
            turn: 0 to begin with.
            within_s: how long to wait.
        """
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self._turn > turn)
        except TimeoutError:
            return turn, NOTHING_NEW
        newer = sorted(one for one in self._newest.values() if one[0] > turn)
        return self._turn, b"".join(event for _, event in newer) or NOTHING_NEW
