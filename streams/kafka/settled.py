"""Where a changelog ends once no earlier owner of its partitions can add to it (see `streams.kafka.transactions`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.kafka.progress import Place
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

_ANSWER_S = 10.0
_PAUSE_S = 0.05
_PENDING = (
    KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION,
)  # fmt: skip


class UnsettledError(LiverankError):
    """The broker does not say where a topic ends."""


class SettledEnds:
    """Asks the broker, and waits for what is pending."""

    def __init__(self, settings: BrokerSettings, within_s: float) -> None:
        """
        Args:
            settings: where the broker is, and which group commits.
            within_s: after which pending transactions are over.
        """
        self._settings, self._within_s = settings, within_s
        self._client: AdminClient | None = None

    async def of(self, inputs: Iterable[Place], changelog: Iterable[Place]) -> dict[Place, int]:
        """The ends of changelog partitions, open transactions included.

        To be asked by a member of the group's present generation, which shuts earlier ones out: first no offset of
        `inputs` must be pending, then whatever was committed with one is before these ends.

        Raises:
            UnsettledError: it is pending for too long.
        """
        until = monotonic() + self._within_s
        asked, wanted = list(inputs), list(changelog)
        while True:
            try:
                if await asyncio.to_thread(self._stable, asked):
                    return await asyncio.to_thread(self._ends, wanted)
            except KafkaException as error:
                if error.args[0].code() not in _PENDING or monotonic() > until:
                    raise UnsettledError(f"the broker does not say where rows end: {error.args[0].str()}") from error
            if monotonic() > until:
                raise UnsettledError(f"offsets of the group are pending for more than {self._within_s:.0f} s")
            await asyncio.sleep(_PAUSE_S)

    async def now(self, places: Iterable[Place]) -> dict[Place, int]:
        """Where partitions end for who reads what was committed.

        Raises:
            KafkaException: the broker does not say.
        """
        return await asyncio.to_thread(self._ends, list(places), IsolationLevel.READ_COMMITTED)

    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(connection.librdkafka(self._settings), logger=log)
        return self._client

    def _stable(self, inputs: list[Place]) -> bool:
        if not inputs:
            return True  # the partitions have left: nothing of them is asked for
        group = self._settings.group
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(*place) for place in inputs])
        answers = self._admin().list_consumer_group_offsets([request], require_stable=True, request_timeout=_ANSWER_S)
        found = answers[group].result(2 * _ANSWER_S).topic_partitions
        for place in found:
            if place.error is not None and place.error.code() != KafkaError.UNSTABLE_OFFSET_COMMIT:
                raise KafkaException(place.error)
        return all(place.error is None for place in found)

    def _ends(self, places: list[Place], level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> dict[Place, int]:
        answers = self._admin().list_offsets(
            {TopicPartition(*place): OffsetSpec.latest() for place in places},
            isolation_level=level,
            request_timeout=_ANSWER_S,
        )
        return {(at.topic, at.partition): answer.result(2 * _ANSWER_S).offset for at, answer in answers.items()}
