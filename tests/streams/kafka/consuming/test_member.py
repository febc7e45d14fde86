"""What the group's member tells, though it fetches nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import GroupAuthorizationFailedError

from streams.kafka.consuming.member import MemberThread


async def test_a_refusal_of_the_coordinator_ends_the_process() -> None:
    """aiokafka gives it to those who wait for its own fetcher, which is not there any more. Nobody need wait for
    records: who has been given no partition does not."""
    ended: asyncio.Queue[BaseException] = asyncio.Queue()
    closed, subscription = asyncio.Event(), SubscriptionState()

    async def close() -> None:
        closed.set()

    member = object.__new__(MemberThread)
    member.app = SimpleNamespace(failed=ended.put_nowait)
    member._consumer = SimpleNamespace(_fetcher=SimpleNamespace(close=close), _subscription=subscription)
    await member.fetch_nothing()
    assert closed.is_set()
    subscription.abort_waiters(GroupAuthorizationFailedError("the-group"))
    async with asyncio.timeout(60):
        error = await ended.get()
    assert isinstance(error, GroupAuthorizationFailedError)
    assert "the-group" in str(error)
