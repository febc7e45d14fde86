"""What is left to do once a user was forgotten: say so, and take from `users` and the disk what was to be forgotten.

The fold has dropped what the row held. A *receipt* on `erasure-receipts` says that it did: of whom is a keyed hash. The
user's record in `users`, which is compacted and so would stay for ever, gets a tombstone, unless a newer one is there;
and RocksDB is compacted where the row's earlier values lay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
import numpy as np
from confluent_kafka import KafkaException

from ranker.contracts.clock import now_ms
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Erasure, ErasureReceipt, User
from ranker.contracts.topics import ERASURE_RECEIPTS, USERS
from ranker.state.pseudonyms import hashed_user
from ranker.state.row import EVENT, NO_TIME, UserRow
from streams.kafka.outbox import Outbox
from streams.kafka.progress import PartitionProgress, Place
from streams.kafka.settled import SettledEnds
from streams.settings import WorkerSettings
from streams.state.store import DamagedStore, Key

log = logging.getLogger(__name__)

_PAUSE_S = 0.02
_RETRY_S = 1.0


class Erasures:
    """Follows erasures up. Belongs to the event loop."""

    def __init__(
        self,
        settings: WorkerSettings,
        outbox: Outbox,
        progress: PartitionProgress,
        ends: SettledEnds,
        row_of: Callable[[Key], UserRow],
    ) -> None:
        """
        Args:
            settings: the worker's settings.
            outbox: takes receipts and tombstones.
            progress: how far `users` was handled.
            ends: where it ends.
            row_of: gives a user's row.
        """
        topics = settings.broker.topics
        self._users = topics.called(USERS)
        self._theirs = USERS in topics.names
        # Never the group's name where ids are not to be found out by guessing.
        self._key = (settings.erasure_key or settings.broker.pseudonym_key or settings.broker.group).encode()
        self._outbox, self._progress, self._ends, self._row_of = outbox, progress, ends, row_of
        self._known: set[Key] = set()  # users of whom `users` may hold something
        self._late: set[Key] = set()
        self._on_disk: set[Key] = set()
        self._written: set[Key] = set()

    def applied(self, at: Position, key: bytes, before: UserRow, record: UserInput, after: UserRow) -> None:
        """An input was folded into its user's row.

        Args:
            at: where the input stands.
            key: the user.
            before: the row before it.
            record: the input.
            after: the row after it; the same where the input had come before.
        """
        if isinstance(record, Erasure):
            self._on_disk.add((at.partition, key))
            if after is before or before.attributes_ts > NO_TIME:  # one that comes again may have had them before
                self._known.add((at.partition, key))
            if after is not before:
                receipt = receipt_of(self._key, before, record)
                self._outbox.send(ERASURE_RECEIPTS, receipt.user.encode(), msgspec.json.encode(receipt))
        elif isinstance(record, User) and record.attributes and NO_TIME < (record.ts or at.ts) <= after.erased_at:
            self._late.add((at.partition, key))

    async def erased(self, place: Key) -> None:
        """An erasure was applied: put a tombstone on what `users` holds of the user, if that may be something."""
        if place in self._known:
            self._known.discard(place)
            await self._bury(place)

    async def _bury(self, place: Key) -> None:
        """A tombstone, once all that `users` has was read, if nothing of the user is newer than the erasure.

        A record that is sent to `users` between the look at its end and the tombstone would be lost to the topic, not
        to the row: a few milliseconds.
        """
        if self._theirs:
            return  # who made the topic cleans it
        partition, key = place
        if not await self._read_to_end(partition):
            return  # partitions change hands: the erasure comes again elsewhere
        row = self._row_of(place)
        if row.erased_at > NO_TIME and row.attributes_ts == NO_TIME:
            # As old as the erasure: to the fold it is one of the records that were to be forgotten.
            self._outbox.send(USERS, key, None, partition, at_ms=row.erased_at)

    async def follow_up(self, compact: Callable[[Key], None]) -> None:
        """What came late, and what RocksDB still has of earlier values. Between two calls lies a checkpoint, so what
        was erased before the last one is written by now.

        Args:
            compact: compacts RocksDB where a user's values lie.
        """
        late, self._late = self._late, set()
        for place in late:
            try:
                await self._bury(place)
            except DamagedStore:
                self._late.add(place)
        written, self._written, self._on_disk = self._written, self._on_disk, set()
        for place in written:
            if self._progress.expected((self._users, place[0])) is not None:  # else another worker has the partition
                await asyncio.to_thread(compact, place)

    async def _read_to_end(self, partition: int) -> bool:
        place = self._users, partition
        while self._progress.expected(place) is not None:
            try:
                end = (await self._ends.now([place]))[place]
            except KafkaException as error:
                log.warning("where %s ends is not known yet: %s", self._users, error.args[0].str())
                await asyncio.sleep(_RETRY_S)
                continue
            if await self._handled_to(place, end):
                return True
        return False

    async def _handled_to(self, place: Place, end: int) -> bool:
        while True:
            handled = self._progress.expected(place)
            if handled is None or handled >= end:
                return handled is not None
            await asyncio.sleep(_PAUSE_S)


def receipt_of(key: bytes, before: UserRow, erasure: Erasure) -> ErasureReceipt:
    """That a user was forgotten.

    Args:
        key: of the hash that stands for the user.
        before: the row before the erasure.
        erasure: up to when all is forgotten.
    """
    assert erasure.ts is not None
    return ErasureReceipt(
        user=hashed_user(key, erasure.user_id),
        ts=erasure.ts,
        forgotten_at=now_ms(),
        events=int(np.count_nonzero(np.frombuffer(before.events, EVENT)["ts"] <= erasure.ts)),
        lists=sum(listed.ts <= erasure.ts for listed in before.current),
        attributes=len(before.attributes) if before.attributes_ts <= erasure.ts else 0,
        words=sum(one.ts <= erasure.ts for one in before.words),
    )
