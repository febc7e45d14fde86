"""Fencing: a checkpoint is one transaction of the broker's, of rows and of the inputs' offsets together.

A worker that stood still for longer than the session timeout may have rows ready from before; by then another worker
holds their partitions and has written newer ones. The broker takes the offsets of a transaction only from a member of
the group's present generation (KIP-447), and where it does not take them the transaction is aborted: its rows never
happened, whatever any clock says. What this relies on:

* the generation is the one with which the partitions came (`Membership`), never one that was joined since;
* who gets partitions waits until no transaction of an earlier generation can still be committed, and reads the
  changelog up to the end that it has then (`streams.kafka.settled`);
* everyone reads what was committed, the recovery of rows too.

A worker that is killed leaves a transaction open. The broker aborts it after `transaction_s`, or when the worker starts
again: its transactional id is kept in its data folder.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from msgspec import Struct

from streams.kafka.outbox import Outbox, SendError, refused
from streams.kafka.progress import Place
from streams.settings import BrokerSettings

#: What the names of a group's transactions begin with, after the group's.
WORKER_IDS = "-worker-"
_LEFT = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID)
_CALL_S = 1.0  # of one call; a thread that waits for a broker that is gone must come back
_START_S = 60.0


class Membership(Struct, frozen=True):
    """In which generation of the consumer group a worker got its partitions, as whom, and when."""

    group: str
    generation: int
    member: str
    since: int = 0  # in milliseconds

    def encoded(self) -> bytes:
        """As librdkafka writes `rd_kafka_consumer_group_metadata`, which its transactions take.

        The group's member is aiokafka's consumer, so librdkafka cannot be asked for it.
        """
        return b"CGMDv2:%b%b\0%b\0\x01" % (
            struct.pack("=i", self.generation), self.group.encode(), self.member.encode()
        )  # fmt: skip


def transaction_s(settings: BrokerSettings) -> float:
    """How long a checkpoint's transaction may take, in seconds; so long may one that was killed keep others waiting."""
    return settings.session_timeout_s


def transactional_id(settings: BrokerSettings, data: Path) -> str:
    """The name of this worker's transactions: the same after each start in its data folder, and nobody else's."""
    path = data / "transactions"
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new")
        whole.write_text(secrets.token_hex(8), encoding="utf-8")
        whole.replace(path)
    return f"{settings.group}{WORKER_IDS}{path.read_text(encoding='utf-8')}"


class TransactionalOutbox(Outbox):
    """An outbox whose records count when `commit` says so, together with offsets, or never."""

    def __init__(self, settings: BrokerSettings, name: str) -> None:
        """
        Args:
            settings: where the broker is.
            name: the transactional id.
        """
        limit_s = transaction_s(settings)
        super().__init__(
            settings, limit_s, {"transactional.id": name, "transaction.timeout.ms": round(limit_s * 1000)}
        )  # fmt: skip
        self._limit_s = limit_s

    async def start(self) -> None:
        """Abort what an earlier process of this name has left open, and shut that process out.

        Raises:
            SendError: the broker does not let this process write under this name, or does not answer.
        """
        await self._call(self._producer.init_transactions, within_s=_START_S)

    async def begin(self) -> None:
        """What is sent from now on belongs together.

        Raises:
            SendError: another process has this name.
        """
        await self._call(lambda _: self._producer.begin_transaction())

    async def commit(self, offsets: Mapping[Place, tuple[int, str]], membership: Membership) -> bool:
        """Make what was sent since `begin`, and the offsets, count; False where the group went on without this member,
        and nothing of it ever does.

        Args:
            offsets: where reading goes on, with each offset's metadata. At least one: they are what is checked.
            membership: in which generation the offsets' partitions came.

        Raises:
            SendError: the broker did not take it all. Whether it counts is not known until the next `start`.
        """
        places = [TopicPartition(*place, at, metadata=text) for place, (at, text) in offsets.items()]
        if not places:
            raise ValueError("a transaction without offsets is checked by nobody")
        try:
            await self._attempt(
                lambda span: self._producer.send_offsets_to_transaction(places, membership.encoded(), span)
            )
        except KafkaException as error:
            if error.args[0].code() not in _LEFT:
                raise SendError(refused(error)) from error
            await self._call(self._producer.abort_transaction)
            return False
        await self._call(self._producer.commit_transaction)
        return True

    async def _call(self, call: Callable[[float], Any], within_s: float | None = None) -> None:
        try:
            await self._attempt(call, within_s)
        except KafkaException as error:
            raise SendError(refused(error)) from error

    async def _attempt(self, call: Callable[[float], Any], within_s: float | None = None) -> None:
        """Call until the broker has answered; a thread waits, not the loop.

        librdkafka may forget its own limit: where the group's coordinator goes away while offsets are sent to it, that
        call waits for a change of some other connection, which may never come (confluentinc/librdkafka, 5456 and 5511).
        The thread is left to it then. What it would still do is harmless: the next `start` aborts it.

        Raises:
            SendError: librdkafka has not come back.
        """
        limit_s = 2 * self._limit_s if within_s is None else within_s
        until = monotonic() + limit_s
        while True:
            left_s = max(0.0, until - monotonic()) + 2 * _CALL_S
            try:
                await asyncio.wait_for(asyncio.to_thread(call, _CALL_S), left_s)
                return
            except TimeoutError:
                raise SendError(f"librdkafka has not come back from a checkpoint for {limit_s:.0f} s") from None
            except KafkaException as error:
                if not error.args[0].retriable() or monotonic() > until:
                    raise
