"""Which topic it is: the id that the broker gives a topic when it is made (KIP-516).

A topic that is deleted and made anew has its name, and other records under the same offsets. Rows keep the id beside
each applied offset, and the group beside each committed one, so that its records are no repeats of the old ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streams.kafka import connection
from streams.kafka.admin import TopicError, told_partitions
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

_ANSWER_S = 2.0  # an orderly end waits for who asks
_TRIES, _PAUSE_S = 10, 0.2


class TopicIds:
    """The ids of some topics as of the last look."""

    def __init__(self, settings: BrokerSettings, topics: Iterable[str]) -> None:
        """
        Args:
            settings: where the broker is.
            topics: by name.
        """
        self._settings = settings
        self._topics = list(topics)
        self._client: AdminClient | None = None
        self._known: dict[str, bytes] = {}

    def of(self, topic: str) -> bytes:
        """A topic's id, half of it, which are 60 random bits; empty where the broker did not say."""
        return self._known.get(topic, b"")

    async def look(self) -> dict[str, bytes]:
        """Ask the broker; the ids that are other ones than those known. They are known with `learn`.

        A topic that is not there now, or a broker that does not answer, says nothing.

        Raises:
            TopicError: a topic has been given more partitions.
        """
        found = await asyncio.to_thread(self._described)
        return {topic: one for topic, one in found.items() if one != self.of(topic)}

    async def take(self) -> set[str]:
        """Ask the broker, until it says of all topics, and know them; which are not what they were.

        Raises:
            TopicError: as `look`.
        """
        for _ in range(_TRIES):
            found = await self.look()
            changed = {topic for topic in found if self.of(topic)}
            self.learn(found)
            if changed or len(self._known) == len(self._topics):
                return changed
            await asyncio.sleep(_PAUSE_S)
        log.warning("the broker does not say which topics are which; one that was made anew is not known as that")
        return set()

    def learn(self, ids: dict[str, bytes]) -> None:
        """These are the topics from now on."""
        self._known |= ids

    def _described(self) -> dict[str, bytes]:
        if self._client is None:
            self._client = AdminClient(connection.librdkafka(self._settings), logger=log)
        found = {}
        asked = self._client.describe_topics(TopicCollection(self._topics), request_timeout=_ANSWER_S)
        for topic, described in asked.items():
            try:
                said = described.result(_ANSWER_S)
            except (KafkaException, TimeoutError):
                continue
            if (count := len(said.partitions)) > self._settings.partitions:
                raise TopicError(told_partitions(topic, count, self._settings.partitions))
            if bits := said.topic_id.get_most_significant_bits():
                found[topic] = bits.to_bytes(8, "big", signed=True)
        return found
