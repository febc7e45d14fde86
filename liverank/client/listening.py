"""Rankings and dead letters as they come: both topics in full, outside of any group, from a moment or their end on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from liverank.client.errors import Refused, Unavailable
from liverank.client.newest import KnownRanking, NewestRankings, known_ranking
from ranker.contracts.records import DeadLetter
from ranker.contracts.topics import DEAD_LETTERS, RANKINGS
from streams.kafka import connection
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

#: No group is joined; librdkafka wants a name, and applications have the right to such.
_GROUP = "application-listening"
_ANSWER_S, _POLL_S, _CLOSE_S, _TOLD_AGAIN_S = 5.0, 0.2, 2.0, 10.0
MORE_EVERY_S = 30.0  # between two looks whether topics have been given more partitions
_AT_ONCE = 500
#: A partition without a leader has one soon, as after its topic was made or a broker was started again.
_LEADERS_CHANGE, _LEADERS_S = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE), 10.0
_letter = msgspec.json.Decoder(DeadLetter)

Heard = KnownRanking | tuple[DeadLetter, str]


class Listener:
    """A thread that reads, and hands on what it read to an event loop, a batch at a time."""

    def __init__(self, settings: BrokerSettings, newest: NewestRankings) -> None:
        """
        Args:
            settings: where the broker is.
            newest: takes in what comes, on the loop that calls `start`.
        """
        self._called, self._newest = settings.topics.called, newest
        self._config = {
            **connection.librdkafka(settings),
            "group.id": _GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",  # of a topic that was made anew, or has let go of where we stood
            "isolation.level": connection.READ_COMMITTED,
            "max.partition.fetch.bytes": connection.MAX_MESSAGE_BYTES,
        }
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None
        self._behind: set[tuple[str, int]] = set()
        self._stop = threading.Event()
        self._told = -_TOLD_AGAIN_S
        self._looked = monotonic()
        self.caught_up = asyncio.Event()  # everything that was there at the start is taken in

    async def start(self, since_ms: int | None = None) -> None:
        """Stand where each topic ends now, and go on from there in the background.

        Args:
            since_ms: begin with the rankings of this time instead.

        Raises:
            Unavailable: the broker does not answer.
            Refused: there are no such topics, or this user may not read them.
        """
        if self._thread is not None:
            return
        await asyncio.to_thread(self._assign, since_ms)
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, args=(loop,), name="liverank-listening", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself, which is a fault: a broker that is away is waited for."""
        return self._thread is not None and not self._thread.is_alive() and not self._stop.is_set()

    def close(self) -> None:
        """End."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _assign(self, since_ms: int | None) -> None:
        end = monotonic() + _LEADERS_S
        while True:
            try:
                self._stand(since_ms)
                return
            except KafkaException as error:
                why = error.args[0]
                if why.code() not in _LEADERS_CHANGE or monotonic() > end or self._stop.wait(_POLL_S):
                    raise Unavailable(f"the broker does not say where the rankings are: {why.str()}") from error

    def _stand(self, since_ms: int | None) -> None:
        consumer = Consumer(self._config, logger=log)
        try:
            places = [place for topic in (RANKINGS, DEAD_LETTERS) for place in self._ends(consumer, topic)]
            if since_ms is not None:
                ends = {(place.topic, place.partition): place for place in places}
                rankings = [place for place in places if place.topic == self._called(RANKINGS)]
                asked = [TopicPartition(one.topic, one.partition, since_ms) for one in rankings]
                for found in consumer.offsets_for_times(asked, timeout=_ANSWER_S):
                    if found.offset >= 0:
                        ends[found.topic, found.partition] = found
                places = list(ends.values())
            consumer.assign(places)
        except BaseException:
            consumer.close()
            raise
        self._consumer = consumer
        self._behind = {(place.topic, place.partition) for place in places}

    def _ends(self, consumer: Consumer, topic: str) -> Iterator[TopicPartition]:
        called = self._called(topic)
        described = consumer.list_topics(called, timeout=_ANSWER_S).topics[called]
        if described.error is not None:
            if described.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise Refused(
                    f"this process's user may not READ {called}; `liverank topics acls` prints what each role needs"
                )
            if described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Refused(f"the topic {called} does not exist; `liverank topics create` makes it")
            raise KafkaException(described.error)
        for partition in described.partitions:
            place = TopicPartition(called, partition)
            _, end = consumer.get_watermark_offsets(place, timeout=_ANSWER_S)
            yield TopicPartition(called, partition, end)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._consumer is not None
        try:
            while not self._stop.is_set():
                if monotonic() - self._looked > MORE_EVERY_S:
                    self._take_more(self._consumer)
                first = self._consumer.poll(_POLL_S)
                if first is None:
                    continue
                heard = [one for each in (first, *self._consumer.consume(_AT_ONCE, 0)) for one in self._heard(each)]
                if heard and not self._hand_on(loop, heard):
                    return
                if not self._behind and not self.caught_up.is_set():
                    loop.call_soon_threadsafe(self.caught_up.set)
        except Exception:
            log.exception("rankings are not followed any more")
        finally:
            self._consumer.close()

    def _take_more(self, consumer: Consumer) -> None:
        """Read partitions that topics have been given since, from their beginning. A broker may be away."""
        self._looked = monotonic()
        known = {(place.topic, place.partition) for place in consumer.assignment()}
        for topic in map(self._called, (RANKINGS, DEAD_LETTERS)):
            with suppress(KafkaException):
                there = consumer.list_topics(topic, timeout=1.0).topics[topic].partitions
                more = [TopicPartition(topic, one, 0) for one in there if (topic, one) not in known]
                consumer.incremental_assign(more)

    def _hand_on(self, loop: asyncio.AbstractEventLoop, heard: list[Heard]) -> bool:
        """Have the loop take a batch in before the next is read; whether there is still a loop that does."""
        taken = threading.Event()

        def done() -> None:
            try:
                self._take(heard)
            finally:
                taken.set()

        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(done)
            while not taken.wait(_POLL_S):
                if self._stop.is_set():
                    return False
            return True
        return False

    def _take(self, heard: list[Heard]) -> None:
        for one in heard:
            if isinstance(one, KnownRanking):
                self._newest.put(one)
            else:
                self._newest.refuse(*one)

    def _heard(self, message: Any) -> Iterator[Heard]:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard((message.topic(), message.partition()))
            elif monotonic() - self._told > _TOLD_AGAIN_S:
                self._told = monotonic()
                log.warning("rankings do not come: %s", error.str())
            return
        try:
            if message.topic() == self._called(RANKINGS):
                yield known_ranking(message.value() or b"")
            else:
                yield _letter.decode(message.value() or b""), (message.key() or b"").decode(errors="replace")
        except msgspec.DecodeError as broken:
            at = f"{message.topic()}-{message.partition()}:{message.offset()}"
            log.warning("the record at %s is left out: %s", at, broken)
