"""One Faust agent for each topic that the consumer group reads, named after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ranker.contracts.topics import ITEMS, USER_INPUTS

#: Takes one message of a topic's stream: its value is a `Chunk` of records.
Receive = Callable[[Any], Awaitable[None]]
Agent = Callable[[Any, Receive], Awaitable[None]]


async def hand_over(stream: Any, receive: Receive) -> None:
    """Hand every message of the stream to `receive`, one after the other, without acks: checkpoints commit."""
    async for event in stream.noack().events():
        await receive(event.message)


#: Topic -> its agent.
AGENTS: dict[str, Agent] = dict.fromkeys((*USER_INPUTS, ITEMS), hand_over)
