"""What the group's member tells who waits for records."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import GroupAuthorizationFailedError

from streams.kafka.consuming.assigned import FetchError
from streams.kafka.consuming.fetching import RecordFetcher
from streams.kafka.consuming.member import MemberThread
from streams.settings import BrokerSettings


async def test_a_refusal_of_the_coordinator_ends_who_waits() -> None:
    """aiokafka gives it to those who wait for its own fetcher, which is not there any more."""
    fetched, closed = RecordFetcher(BrokerSettings()), asyncio.Event()
    subscription = SubscriptionState()

    async def close() -> None:
        closed.set()

    member = object.__new__(MemberThread)
    member.consumer = SimpleNamespace(records=fetched)
    member._consumer = SimpleNamespace(_fetcher=SimpleNamespace(close=close), _subscription=subscription)
    await member.fetch_nothing()
    assert closed.is_set()
    waiting = asyncio.create_task(fetched.take([("clicks", 0)], 60.0, 1))
    subscription.abort_waiters(GroupAuthorizationFailedError("the-group"))
    with pytest.raises(FetchError, match="the-group"):
        await waiting
