"""The clients that applications use: one interface over Kafka or over a gateway, awaited or blocking."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, get_args

from msgspec import Struct
from msgspec.structs import replace

from liverank.client.groups import GroupRanking, GroupRule, check_rule, events_by_member, put_together
from liverank.client.http import OverGateway
from liverank.client.kafka import OverKafka
from liverank.client.messages import Accepted, SentRecord
from liverank.settings import Settings, load_settings
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import CandidateList, Interaction, Ranking

#: Where the token for a gateway is: the environment alone.
TOKEN_VARIABLE = "LIVERANK_GATEWAY_TOKEN"  # noqa: S105  # its name
_FILE = Path("liverank.toml")
_USERS = 10_000  # whose newest rankings a client over Kafka remembers
_CLOSED = "this client is closed; make another one"
_Result = TypeVar("_Result")


class RankedList(Struct, frozen=True, kw_only=True):
    """What `rank` gives. `stale`: the deadline came first, and the ranking does not know of all that was sent."""

    ranking: Ranking | None  # None: no ranking of the list is known yet
    stale: bool


class Way(Protocol):
    """What carries a client's questions: `OverKafka` and `OverGateway`."""

    async def send(self, records: Sequence[SentRecord]) -> list[Accepted]:
        """Send records; where the broker has them."""

    async def withdraw(self, item_ids: Sequence[str]) -> list[Accepted]:
        """Send tombstones of items; where the broker has them."""

    async def rank(
        self, candidates: CandidateList, events: Sequence[Interaction], within_s: float
    ) -> tuple[Ranking | None, bool]:
        """Send a list and events; the newest ranking of the list, and whether it is stale."""

    async def ranking(self, user_id: str, request_id: str | None) -> Ranking | None:
        """The newest ranking that is known."""

    def follow(self, user_id: str) -> AsyncGenerator[Ranking]:
        """A user's rankings as they come."""

    async def close(self) -> None:
        """End."""


class AsyncClient:
    """Sends what an application has to say, and gets rankings. Belongs to one event loop.

        async with AsyncClient() as client:                          # over Kafka, by the environment
            ranked = await client.rank(candidates, [click], within_s=0.5)

    A record that is accepted is confirmed by every in-sync replica of the broker. Each event gets an `event_id` where
    it has none, and each record its time, before the first try, so that what is tried again counts once.
    """

    def __init__(
        self, gateway: str | None = None, *, settings: Settings | None = None, give_up_after_s: float = 10.0
    ) -> None:
        """
        Args:
            gateway: its address, as `http://127.0.0.1:8080`; None goes over Kafka. Its token is the environment's
                LIVERANK_GATEWAY_TOKEN.
            settings: of Kafka; None reads `liverank.toml` and the environment, as a worker does.
            give_up_after_s: what the other side has not accepted by then is `Unavailable`.

        Raises:
            LiverankError: settings, or an address, with which nobody is reached.
        """
        if not give_up_after_s > 0:
            raise LiverankError(f"give_up_after_s is {give_up_after_s}; it must be above 0")
        self._made_in, self._closed = os.getpid(), False
        self._loop: asyncio.AbstractEventLoop | None = None  # that asked first
        self._way: Way
        if gateway is not None:
            self._way = OverGateway(gateway, os.environ.get(TOKEN_VARIABLE, "").strip(), give_up_after_s)
            return
        own = settings if settings is not None else load_settings(_FILE if _FILE.exists() else None)
        self._way = OverKafka(
            own.broker, own.worker.schema, own.worker.limits, users=_USERS, lists=own.worker.lists,
            deliver_within_s=give_up_after_s,
        )  # fmt: skip

    async def send(self, *records: SentRecord) -> list[Accepted]:
        """Send events, lists, items, attributes and erasures, in their order; where the broker has each.

        Raises:
            InvalidRecord: a worker would not take one of them, in the words of its dead letter. None was sent over
                Kafka, and none of the same kind over a gateway.
            Unavailable: some may not have arrived: the same may be sent again.
            Refused: a right, a topic or a token is missing.
        """
        way = self._usable()
        _refuse_others(records, SentRecord)
        return await way.send(records) if records else []

    async def withdraw(self, *item_ids: str) -> list[Accepted]:
        """Take items out of the catalogue: they are in no later ranking until they are described again. One that nobody
        has described may be withdrawn too, and each as often as one likes.

        Raises:
            InvalidRecord: no item can have one of these ids. Over Kafka none was sent, over a gateway none after it.
            Unavailable: as `send`.
            Refused: as `send`.
        """
        way = self._usable()
        return await way.withdraw(item_ids) if item_ids else []

    async def rank(
        self, candidates: CandidateList, events: Iterable[Interaction] = (), within_s: float = 1.0
    ) -> RankedList:
        """Send a user's newest events and a list, and wait for the ranking that knows of all of them.

        Args:
            candidates: the list, in the order in which it would be shown.
            events: the same user's.
            within_s: then the newest ranking of the list that is known is taken, marked `stale`.

        Raises:
            InvalidRecord: as `send`; also where a worker refuses what was sent.
            Unavailable: as `send`.
            Refused: as `send`.
        """
        way, given = self._usable(), list(events)
        _refuse_others([candidates], CandidateList)
        _refuse_others(given, Interaction)
        ranking, stale = await way.rank(candidates, given, within_s)
        return RankedList(ranking=ranking, stale=stale)

    async def rank_group(
        self,
        members: Sequence[str],
        candidates: CandidateList,
        events: Iterable[Interaction] = (),
        by: GroupRule = "average",
        within_s: float = 1.0,
    ) -> GroupRanking:
        """Have a list ranked for each of several users, and put their scores together.

        Args:
            members: user ids.
            candidates: the list; whose it is said to be does not matter.
            events: any members'.
            by: the mean of the members' scores (`average`), the least (`least-misery`) or the most (`most-pleasure`).
            within_s: then the group is ranked by what is known, and says whose ranking is missing or stale.

        Raises:
            InvalidRecord: as `rank`; also where an event is nobody's of the group.
            Unavailable: as `send`.
            Refused: as `send`; also where workers leave the scores out.
        """
        way, given = self._usable(), list(events)
        check_rule(by)
        _refuse_others([candidates], CandidateList)
        _refuse_others(given, Interaction)
        own = events_by_member(members, [event.user_id for event in given])
        whole = replace(candidates, k=None, reasons=None)  # a group's ranking says none
        answers = await asyncio.gather(
            *(
                way.rank(replace(whole, user_id=member), [given[number] for number in numbers], within_s)
                for member, numbers in own.items()
            ),
            return_exceptions=True,
        )
        found: dict[str, tuple[Ranking | None, bool]] = {}
        for member, answer in zip(own, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found[member] = answer
        rankings = {member: ranking for member, (ranking, _) in found.items()}
        return put_together(candidates, rankings, [member for member, (_, stale) in found.items() if stale], by)

    async def ranking(self, user_id: str, request_id: str | None = None) -> Ranking | None:
        """The newest ranking that is known of a list, or of any list of the user: over Kafka since the first question,
        over a gateway since that one looks. None where there is none."""
        return await self._usable().ranking(user_id, request_id)

    async def follow(self, user_id: str) -> AsyncGenerator[Ranking]:
        """A user's rankings as they come, those that are known first; whoever is slow gets the newest of each list."""
        async with aclosing(self._usable().follow(user_id)) as rankings:
            async for ranking in rankings:
                yield ranking

    async def aclose(self) -> None:
        """End; what was accepted is the broker's. A second time does nothing, nor does it after a fork."""
        if not self._closed and os.getpid() == self._made_in:
            self._closed = True
            await self._way.close()

    def _usable(self) -> Way:
        """The way, where it can be gone: elsewhere an answer would never come, or be told to nobody.

        Raises:
            LiverankError: this client is closed, or another process's or event loop's.
        """
        if self._closed:
            raise LiverankError(_CLOSED)
        refuse_forked(self._made_in)
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise LiverankError("this client belongs to the event loop that asked it first; make one in each loop")
        return self._way

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Client:
    """`AsyncClient` for who does not await: any thread may call it, and each call waits.

        with Client() as client:
            client.send(Interaction(user_id="u1", item_id="i7", action="click"))

    Made after a fork, not before: it has threads.
    """

    def __init__(
        self, gateway: str | None = None, *, settings: Settings | None = None, give_up_after_s: float = 10.0
    ) -> None:
        """As `AsyncClient`."""
        self._made_in = os.getpid()
        self._client = AsyncClient(gateway, settings=settings, give_up_after_s=give_up_after_s)
        self._lock, self._closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="liverank-client", daemon=True)
        self._thread.start()

    def send(self, *records: SentRecord) -> list[Accepted]:
        """As `AsyncClient.send`."""
        return self._wait(self._client.send(*records))

    def withdraw(self, *item_ids: str) -> list[Accepted]:
        """As `AsyncClient.withdraw`."""
        return self._wait(self._client.withdraw(*item_ids))

    def rank(self, candidates: CandidateList, events: Iterable[Interaction] = (), within_s: float = 1.0) -> RankedList:
        """As `AsyncClient.rank`."""
        return self._wait(self._client.rank(candidates, events, within_s))

    def rank_group(
        self,
        members: Sequence[str],
        candidates: CandidateList,
        events: Iterable[Interaction] = (),
        by: GroupRule = "average",
        within_s: float = 1.0,
    ) -> GroupRanking:
        """As `AsyncClient.rank_group`."""
        return self._wait(self._client.rank_group(members, candidates, events, by, within_s))

    def ranking(self, user_id: str, request_id: str | None = None) -> Ranking | None:
        """As `AsyncClient.ranking`."""
        return self._wait(self._client.ranking(user_id, request_id))

    def follow(self, user_id: str) -> Iterator[Ranking]:
        """As `AsyncClient.follow`; ends when the client is closed."""
        stream = self._client.follow(user_id)
        try:
            while (ranking := self._wait(_next_of(stream))) is not None:
                yield ranking
        except CancelledError:
            return
        except GeneratorExit:
            with suppress(LiverankError, CancelledError):
                self._wait(_end(stream))
            raise

    def close(self) -> None:
        """End; what was accepted is the broker's. A second time does nothing, nor does it after a fork."""
        if os.getpid() != self._made_in:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:  # who follows, or still waits
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _wait(self, asked: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            refuse_forked(self._made_in)  # before the lock, which another thread may have held then
        except LiverankError:
            asked.close()
            raise
        with self._lock:
            if self._closed:
                asked.close()
                raise LiverankError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_forked(made_in: int) -> None:
    """Nothing, in the process in which a client was made.

    Raises:
        LiverankError: this one was forked off since, and has none of its threads.
    """
    if os.getpid() != made_in:
        raise LiverankError(
            "this client was made before a fork, and its threads and connections are the other process's; make one in "
            "each process"
        )


def _refuse_others(given: Iterable[object], wanted: Any) -> None:
    """Nothing, where each is a record of a kind that goes there.

    Raises:
        InvalidRecord: one is something else.
    """
    for one in given:
        if not isinstance(one, wanted):
            kinds = " or ".join(kind.__name__ for kind in get_args(wanted) or (wanted,))
            raise InvalidRecord("invalid", f"a {type(one).__name__} is given where a record belongs: give {kinds}")


async def _next_of(stream: AsyncGenerator[Ranking]) -> Ranking | None:
    return await anext(stream, None)


async def _end(stream: AsyncGenerator[Ranking]) -> None:
    await stream.aclose()
