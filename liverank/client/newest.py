"""The newest rankings of many users, in bounded memory, and who waits for which."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from liverank.client.messages import Accepted
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import DeadLetter

_EVICTED_AT_ONCE = 8  # so that no call takes long; each adds one
#: The dead letters that are remembered, for inputs whose place the broker is about to tell.
_REFUSED_KEPT = 4096


class KnownRanking(Struct, frozen=True):
    """A ranking as it came, and of it what says which it is. The list itself is decoded by who shows it."""

    ranking_id: str
    user_id: str
    revision: int
    applied: dict[str, int]
    request_id: str
    epoch: int = 0
    body: bytes = b""


_decode = msgspec.json.Decoder(KnownRanking).decode


def known_ranking(body: bytes) -> KnownRanking:
    """A message of `rankings`.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.structs.replace(_decode(body), body=body)


def covers(applied: dict[str, int], offsets: dict[str, int]) -> bool:
    """Whether a ranking's `applied` knows of all these offsets."""
    return all(applied.get(topic, -1) >= offset for topic, offset in offsets.items())


class Watch:
    """What has come of one user's lists and was not taken yet: the newest of each, however slow the taker is."""

    def __init__(self, lists: int) -> None:
        self._lists = lists
        self._changed = asyncio.Event()
        self._pending: dict[str, KnownRanking] = {}

    def tell(self, ranking: KnownRanking | None = None) -> None:
        """Something came: a ranking, or the word that an input was refused."""
        if ranking is not None:
            self._pending.pop(ranking.request_id, None)
            self._pending[ranking.request_id] = ranking
            if len(self._pending) > self._lists:
                del self._pending[next(iter(self._pending))]
        self._changed.set()

    async def changed(self) -> list[KnownRanking]:
        """Wait until something came; the rankings among it, in the order in which they came."""
        await self._changed.wait()
        self._changed.clear()
        found, self._pending = list(self._pending.values()), {}
        return found


class NewestRankings:
    """Of each user the newest ranking of each of the few newest lists; of most users at once, the ones ranked last.

    Of several rankings of a list the one with the highest (epoch, revision) holds. Belongs to one event loop.
    """

    def __init__(self, users: int, lists: int) -> None:
        """
        Args:
            users: whose rankings are remembered at most; who is waited for stays beyond that.
            lists: of one user.
        """
        self._most, self._lists = users, lists
        self._users: OrderedDict[str, dict[str, KnownRanking]] = OrderedDict()
        self._watches: dict[str, set[Watch]] = {}
        self._refused: OrderedDict[tuple[str, int, int], InvalidRecord] = OrderedDict()
        self._ended = False

    def __len__(self) -> int:
        """Users who are remembered."""
        return len(self._users)

    def put(self, ranking: KnownRanking) -> None:
        """Take a ranking in; one that is older than what is known changes nothing."""
        lists = self._users.setdefault(ranking.user_id, {})
        self._users.move_to_end(ranking.user_id)
        known = lists.get(ranking.request_id)
        if known is not None and (ranking.epoch, ranking.revision) < (known.epoch, known.revision):
            return
        lists.pop(ranking.request_id, None)
        lists[ranking.request_id] = ranking
        if len(lists) > self._lists:
            del lists[next(iter(lists))]
        for watch in self._watches.get(ranking.user_id, ()):
            watch.tell(ranking)
        self._evict()

    def refuse(self, letter: DeadLetter, user_id: str) -> None:
        """Take a dead letter in: whoever waits for its input need not go on."""
        self._refused[letter.topic, letter.partition, letter.offset] = InvalidRecord(letter.reason, letter.error)
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.popitem(last=False)
        for watch in self._watches.get(user_id, ()):
            watch.tell()

    def of(self, user_id: str) -> list[KnownRanking]:
        """The newest ranking of each of a user's lists, the one that came last at the end."""
        return list(self._users.get(user_id, {}).values())

    def newest(self, user_id: str, request_id: str | None = None) -> KnownRanking | None:
        """The newest ranking of a list, or the one that came last of any; None where none is known."""
        if request_id is not None:
            return self._users.get(user_id, {}).get(request_id)
        known = self.of(user_id)
        return known[-1] if known else None

    @contextmanager
    def watching(self, user_id: str) -> Iterator[Watch]:
        """What comes of a user's lists meanwhile."""
        watch = Watch(self._lists)
        self._watches.setdefault(user_id, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[user_id].discard(watch)
            if not self._watches[user_id]:
                del self._watches[user_id]

    async def covering(self, watch: Watch, user_id: str, request_id: str, sent: Sequence[Accepted]) -> KnownRanking:
        """Wait for the first ranking of a list that knows of all that was sent; the caller says for how long.

        Args:
            watch: of the user; it was there before anything was sent.
            user_id: whose.
            request_id: of the list.
            sent: what the ranking has to know of.

        Raises:
            InvalidRecord: a worker has refused one of them, and says so in a dead letter.
            TimeoutError: nothing more will come.
        """
        offsets = highest(sent)
        while True:
            for one in sent:
                if (why := self._refused.get((one.topic, one.partition, one.offset))) is not None:
                    raise why
            known = self.newest(user_id, request_id)
            if known is not None and covers(known.applied, offsets):
                return known
            if self._ended:
                raise TimeoutError
            await watch.changed()

    async def follow(self, user_id: str) -> AsyncGenerator[KnownRanking]:
        """What is known of a user's lists, then each ranking as it comes; whoever is slow gets the newest of a list."""
        with self.watching(user_id) as watch:
            for known in self.of(user_id):
                yield known
            while not self._ended:
                for ranking in await watch.changed():
                    yield ranking

    def end(self) -> None:
        """Nothing more will come: whoever waits need not."""
        self._ended = True
        for watches in self._watches.values():
            for watch in watches:
                watch.tell()

    def _evict(self) -> None:
        for _ in range(_EVICTED_AT_ONCE):
            if len(self._users) <= self._most:
                return
            oldest = next(iter(self._users))
            if oldest in self._watches:
                self._users.move_to_end(oldest)
            else:
                del self._users[oldest]


def highest(sent: Iterable[Accepted]) -> dict[str, int]:
    """The last offset of each topic, by the broker's name, among what was sent of one user."""
    offsets: dict[str, int] = {}
    for one in sent:
        offsets[one.topic] = max(offsets.get(one.topic, -1), one.offset)
    return offsets
