"""Checkpoints: how rows become durable and inputs acknowledged.

A kill between two lines below loses nothing: what is not committed comes again, and neither the fold nor the reader of
rankings minds. In order:

1. every ranking, example and dead letter of the inputs so far has been sent, and the broker has confirmed all of it; an
   example is made of the row before its input, so it must be safe before that row is replaced;
2. rows changed since the last checkpoint go to the changelog, in slices, so that the event loop turns between them; of
   each the lists that left or came before the head that knows of that;
3. they and the inputs' offsets are committed together, in one transaction, which the broker takes from the owner of the
   partitions alone (`streams.kafka.transactions`);
4. the rows go to RocksDB with the offset of their changelog records.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from ranker.contracts.errors import LiverankError
from streams.kafka.outbox import Outbox
from streams.kafka.progress import PartitionProgress, Place
from streams.kafka.transactions import Membership, TransactionalOutbox
from streams.state.cache import ChangedRow, RowCache
from streams.state.store import Key, RowTable
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Entry = TypeVar("Entry")
Commit = Callable[[Mapping[Place, int], Membership], Awaitable[bool]]

#: Rows encoded or stored in one turn of the event loop, a few hundred microseconds.
_SLICE = 20


class UnsafeCheckpointError(LiverankError):
    """A checkpoint that must not be taken."""


class Checkpoints:
    """Takes checkpoints, one at a time."""

    def __init__(
        self,
        *,
        progress: PartitionProgress,
        rows: RowCache,
        table: RowTable,
        settled: Callable[[], Awaitable[None]],
        outboxes: Sequence[Outbox],
        changelog: TransactionalOutbox,
        membership: Callable[[], Membership | None],
        commit: Commit,
        left: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """
        Args:
            progress: what was handled.
            rows: what it changed.
            table: where rows are kept.
            settled: waits until all that was handled is ranked.
            outboxes: what is not confirmed yet.
            changelog: takes rows.
            membership: as what this worker holds its partitions.
            commit: makes rows and offsets count; whether the group still counts on this worker.
            left: lets go of everything read from partitions.
            metrics: counts.
        """
        self._progress = progress
        self._rows = rows
        self._table = table
        self._settled = settled
        self._outboxes = outboxes
        self._changelog = changelog
        self._membership = membership
        self._commit = commit
        self._left = left
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._broken = False

    async def take(self) -> None:
        """Make everything handled so far durable, and commit it.

        Raises:
            SendError: the broker did not take a record. Nothing was committed, and nothing is any more.
            UnsafeCheckpointError: an earlier checkpoint was not completed.
        """
        async with self._lock:
            if self._broken:
                raise UnsafeCheckpointError(
                    "an earlier checkpoint failed; its rows are not durable, so nothing is committed"
                )
            for outbox in self._outboxes:
                outbox.poll()
            self._changelog.poll()
            if self._progress.changed:
                self._broken = True  # until it is through, however it is left
                await self._take()
                self._broken = False

    async def between(self, act: Callable[[], None]) -> None:
        """Do something while no checkpoint is under way."""
        async with self._lock:
            act()

    async def _take(self) -> None:
        started = monotonic()
        membership = self._membership()  # before anything else: that of the partitions of which this was handled
        offsets, changed = self._progress.take(), self._rows.take_changed()
        encoded = await self._encode(changed)
        await self._settled()
        for outbox, sent in [(outbox, outbox.cut()) for outbox in self._outboxes]:
            await outbox.confirmed(sent)
        if membership is None:
            self._let_go()
            return
        await self._changelog.begin()
        last: dict[int, int] = {}  # partition -> offset of its last record, once confirmed
        for partition, rows in encoded.items():
            await self._send(partition, rows, last)
        await self._changelog.confirmed(self._changelog.cut())
        if not await self._commit(offsets, membership):
            self._let_go()
            return
        for partition, rows in encoded.items():
            await self._store(partition, rows, last[partition])
        self._rows.written()
        self._metrics.checkpoint(len(changed), monotonic() - started)

    def _let_go(self) -> None:
        log.warning("the group went on without this worker; what it had in work comes again elsewhere")
        self._left()

    async def _encode(self, changed: Mapping[Key, ChangedRow]) -> dict[int, dict[bytes, bytes | None]]:
        """The rows as stored, by partition: keys and values in the order in which they are to be written."""
        encoded: defaultdict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        for part in _slices(list(changed.items())):
            for (partition, _), row in part:
                encoded[partition] |= row.values()
            await asyncio.sleep(0)
        return encoded

    async def _send(self, partition: int, rows: dict[bytes, bytes | None], last: dict[int, int]) -> None:
        """Rows to the changelog. They are confirmed in order, so the last one's offset is the highest."""
        changelog, final = self._table.changelog_topic_name, next(reversed(rows))
        for part in _slices(list(rows.items())):
            for key, value in part:
                confirmed = partial(last.__setitem__, partition) if key is final else None
                self._changelog.send(changelog, key, value, partition, confirmed)
            await asyncio.sleep(0)

    async def _store(self, partition: int, rows: dict[bytes, bytes | None], offset: int) -> None:
        """Rows to RocksDB. Only the last slice says how far the copy reaches, so a kill between leaves it true."""
        *parts, final = _slices(list(rows.items()))
        for part in parts:
            self._table.store.write(partition, dict(part))
            await asyncio.sleep(0)
        self._table.store.write(partition, dict(final), offset)


def _slices(entries: list[Entry]) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), _SLICE):
        yield entries[start : start + _SLICE]
