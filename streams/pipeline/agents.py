"""One agent for each topic that the consumer group reads, named after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from streams.agents.candidates import candidates
from streams.agents.clicks import clicks
from streams.agents.erasures import erasures
from streams.agents.interactions import interactions
from streams.agents.items import items
from streams.agents.users import users
from streams.agents.views import views

Receive = Callable[[Any], Awaitable[None]]
Agent = Callable[[Any, Receive], Awaitable[None]]

#: Topic -> its agent, which hands every message of the topic's stream to `receive`, one after the other.
AGENTS: dict[str, Agent] = {
    "clicks": clicks,
    "views": views,
    "interactions": interactions,
    "candidates": candidates,
    "users": users,
    "erasures": erasures,
    "items": items,
}
