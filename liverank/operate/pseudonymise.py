"""Rows that are stored under users' ids, stored under pseudonyms from now on.

The changelog of ids is copied into that of the key, and deleted once all of it is there. While both are there no worker
starts, with the key or without it; so a call that was broken off is repeated, and copies everything again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from liverank.operate.reading import read_to_end
from ranker.contracts.errors import LiverankError
from ranker.state.codec import renamed
from streams.kafka import connection
from streams.kafka.admin import create_missing, topics_there, why_not_found
from streams.kafka.outbox import Outbox
from streams.kafka.progress import Place
from streams.kafka.settled import SettledEnds
from streams.settings import TABLE, BrokerSettings

log = logging.getLogger(__name__)

_ANSWER_S = 30.0
_MOST_UNCONFIRMED = 10_000


def pseudonymise(settings: BrokerSettings) -> int:
    """Store the rows of an installation under its `pseudonym_key`, and delete what is stored under ids.

    Returns:
        How many records were copied.

    Raises:
        LiverankError: a worker runs, there is no key, or rows are stored under another one; or the broker refuses.
    """
    if not settings.row_names.hashed:
        raise LiverankError("set LIVERANK_PSEUDONYM_KEY to the key under which rows are to be stored")
    client = AdminClient(connection.librdkafka(settings), logger=log)
    by_id = f"{settings.group}-{TABLE}-changelog"
    facts = topics_there(client, settings)
    if (wrong := why_not_found(settings, set(facts.topics) - {by_id})) is not None:
        raise LiverankError(wrong)
    if by_id not in facts.topics:
        raise LiverankError(f"there are no rows under users' ids: {by_id} does not exist")
    if facts.topics[by_id].partitions != settings.partitions:
        raise LiverankError(f"{by_id} has {facts.topics[by_id].partitions} partitions: set `partitions` to that")
    create_missing(client, settings, facts)  # from now on no worker starts
    _refuse_members(client, settings)
    before = _ends(settings, by_id)
    copied = asyncio.run(_copy(settings, by_id))
    _refuse_members(client, settings)
    if _ends(settings, by_id) != before:
        raise LiverankError(f"a worker wrote to {by_id} meanwhile: end all workers, and call this again")
    try:
        client.delete_topics([by_id], operation_timeout=_ANSWER_S)[by_id].result(_ANSWER_S)
    except KafkaException as error:
        raise LiverankError(f"{by_id} was copied and cannot be deleted: {error.args[0].str()}; delete it") from error
    return copied


async def _copy(settings: BrokerSettings, by_id: str) -> int:
    """Every record, in its partition and order, tombstones too: what an earlier call copied is overwritten by them."""
    names, outbox, copied = settings.row_names, Outbox(settings), 0
    for message in read_to_end(settings, by_id, range(settings.partitions)):
        key, value = bytes(message.key() or b""), message.value()
        outbox.send(
            settings.changelog,
            renamed(key, names.of),
            None if value is None else bytes(value),
            message.partition() or 0,
            at_ms=message.timestamp()[1],
        )
        copied += 1
        await outbox.room(_MOST_UNCONFIRMED)
    await outbox.confirmed(outbox.cut())
    return copied


def _refuse_members(client: AdminClient, settings: BrokerSettings) -> None:
    try:
        found = client.describe_consumer_groups([settings.group])[settings.group].result(_ANSWER_S)
    except KafkaException as error:
        raise LiverankError(f"the group {settings.group!r} cannot be looked at: {error.args[0].str()}") from error
    if found.members or found.state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
        raise LiverankError(
            f"the group {settings.group!r} has {len(found.members)} members: end all workers first; one that was "
            f"killed is a member for {settings.session_timeout_s:g} s more"
        )


def _ends(settings: BrokerSettings, topic: str) -> Mapping[Place, int]:
    """Where the topic's partitions end; whatever was sent there is committed, or never will be."""
    places = [(topic, number) for number in range(settings.partitions)]
    ends = SettledEnds(settings, _ANSWER_S)

    async def asked() -> tuple[Mapping[Place, int], Mapping[Place, int]]:
        return await ends.of([], places), await ends.now(places)

    try:
        high, stable = asyncio.run(asked())
    except KafkaException as error:
        raise LiverankError(f"the broker does not say where {topic} ends: {error.args[0].str()}") from error
    if high != stable:
        raise LiverankError(
            f"a transaction on {topic} is open: that of a worker which was killed; call this again when the broker has "
            "ended it, in less than a minute"
        )
    return high
