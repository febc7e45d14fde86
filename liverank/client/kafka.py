"""A client's way over Kafka itself: what is sent is the broker's when it is accepted, and rankings are followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple

import msgspec

from liverank.client.listening import Listener
from liverank.client.messages import Accepted, Outgoing, Ready, SentRecord
from liverank.client.newest import KnownRanking, NewestRankings
from liverank.client.sending import Deliveries
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import Limits
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import CandidateList, Interaction, Ranking
from ranker.contracts.schema import FeatureSchema
from streams.settings import BrokerSettings

_ranking = msgspec.json.Decoder(Ranking)


class Covered(NamedTuple):
    """What the wait for a ranking gave."""

    accepted: list[Accepted]
    ranking: KnownRanking | None
    stale: bool


class OverKafka:
    """Sends to the brokers and follows `rankings` in full, from the first question for a ranking on.

    Belongs to one event loop. What it remembers is bounded; see `NewestRankings`.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        schema: FeatureSchema | None,
        limits: Limits,
        *,
        users: int,
        lists: int,
        deliver_within_s: float,
    ) -> None:
        """
        Args:
            settings: where the broker is, and what topics are called there.
            schema: which actions there are; where None, a worker says so of an action that is none.
            limits: what a record may be at most.
            users: whose rankings are remembered at most.
            lists: of one user.
            deliver_within_s: what the broker has not confirmed by then is an error.
        """
        self.newest = NewestRankings(users, lists)
        self.listener = Listener(settings, self.newest)
        self.outgoing = Outgoing(schema, limits, settings.topics)
        self._deliveries = Deliveries(settings, deliver_within_s)
        self._starting = asyncio.Lock()

    async def send(self, records: Sequence[SentRecord]) -> list[Accepted]:
        """Send records, all of which are looked at before the first one goes out."""
        now = now_ms()
        return await self.deliver([self.outgoing.of(record, now) for record in records])

    async def deliver(self, messages: Sequence[Ready]) -> list[Accepted]:
        """Send messages that are ready; where the broker has them."""
        return await self._deliveries.send(messages)

    async def withdraw(self, item_ids: Sequence[str]) -> list[Accepted]:
        """Send tombstones of items, none before all are looked at."""
        return await self.deliver([self.outgoing.withdrawn(item_id) for item_id in item_ids])

    async def rank(
        self, candidates: CandidateList, events: Sequence[Interaction], within_s: float
    ) -> tuple[Ranking | None, bool]:
        """Send a list's events and the list; the ranking that covers them, or the newest of the list, and that it is
        stale."""
        now = now_ms()
        messages = [self.outgoing.of(event, now) for event in events]
        found = await self.covered(self.outgoing.of(candidates, now), messages, within_s)
        return (None if found.ranking is None else decoded_ranking(found.ranking)), found.stale

    async def covered(self, candidates: Ready, events: Sequence[Ready], within_s: float) -> Covered:
        """The same, of messages that are ready.

        Raises:
            InvalidRecord: an event is another user's; or a worker refused something, and says so in a dead letter.
            Unavailable: the broker has not confirmed all of it.
        """
        listed = candidates.record
        assert isinstance(listed, CandidateList)
        for number, event in enumerate(events):
            user = event.record.user_id if isinstance(event.record, Interaction) else ""
            if user != listed.user_id:
                raise InvalidRecord(
                    "key-mismatch",
                    f"user_id of event {number} is {user!r} but the list's is {listed.user_id!r}; they must be equal",
                )
        await self.listen()
        deadline = asyncio.get_running_loop().time() + within_s
        with self.newest.watching(listed.user_id) as watch:
            accepted = await self.deliver([*events, candidates])
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    ranking = await self.newest.covering(watch, listed.user_id, listed.request_id, accepted)
                    return Covered(accepted, ranking, stale=False)
        return Covered(accepted, self.newest.newest(listed.user_id, listed.request_id), stale=True)

    async def ranking(self, user_id: str, request_id: str | None) -> Ranking | None:
        """The newest ranking of a list that came since the first question, or of any list of the user."""
        await self.listen()
        known = self.newest.newest(user_id, request_id)
        return None if known is None else decoded_ranking(known)

    async def follow(self, user_id: str) -> AsyncGenerator[Ranking]:
        """A user's rankings from now on, those that are known first."""
        await self.listen()
        async with aclosing(self.newest.follow(user_id)) as rankings:
            async for known in rankings:
                yield decoded_ranking(known)

    async def listen(self, since_ms: int | None = None) -> None:
        """Follow the rankings, if nobody has asked for that yet."""
        async with self._starting:
            await self.listener.start(since_ms)

    async def close(self) -> None:
        """End; what was not accepted by now may not have arrived."""
        self.newest.end()
        await asyncio.to_thread(self._deliveries.close)
        await asyncio.to_thread(self.listener.close)


def decoded_ranking(known: KnownRanking) -> Ranking:
    """The record itself."""
    return _ranking.decode(known.body)
