"""Messages to the broker, by librdkafka, and where it has put them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from liverank.client.errors import Refused, Unavailable
from liverank.client.messages import Accepted, Ready
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Interaction
from streams.kafka import connection
from streams.kafka.outbox import undelivered
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

_POLL_S, _CLOSE_S = 0.1, 2.0
#: What no waiting puts right.
_FOR_GOOD = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG,
    KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_RECORD,
)  # fmt: skip
_NO_TOPIC = (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


class Deliveries:
    """Sends messages, and says of each where the broker has it: every in-sync replica, and once."""

    def __init__(self, settings: BrokerSettings, deliver_within_s: float) -> None:
        """
        Args:
            settings: where the broker is.
            deliver_within_s: what it has not confirmed by then is not sent any more.
        """
        own = {**connection.PRODUCING, "message.timeout.ms": round(deliver_within_s * 1000)}
        self._config = connection.librdkafka(settings) | own
        self._called = settings.topics.called
        self._producer = Producer(self._config, logger=log)
        self._broken = False  # it takes nothing any more: another one takes its place
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="liverank-sending", daemon=True)
        self._thread.start()

    async def send(self, messages: Sequence[Ready]) -> list[Accepted]:
        """Send messages in their order, and wait until the broker has all of them.

        Raises:
            Unavailable: it has not confirmed one of them in time, which may have arrived or not; nor may later ones.
            Refused: it does not take one at all.
        """
        loop = asyncio.get_running_loop()
        waiting = [self._produce(loop, one) for one in messages]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        failed = [one for one in found if isinstance(one, BaseException)]
        if failed:
            raise next((one for one in failed if isinstance(one, Refused)), failed[0])
        return [one for one in found if isinstance(one, Accepted)]

    def close(self) -> None:
        """Wait a little for what is on its way, and end. Who still waits for a confirmation hears that none came."""
        self._closed.set()
        self._thread.join(_CLOSE_S)
        if self._producer.flush(_CLOSE_S):
            self._producer.purge()
            self._producer.flush(_CLOSE_S)

    def _produce(self, loop: asyncio.AbstractEventLoop, one: Ready) -> asyncio.Future[Accepted]:
        topic, key, value = one.message
        confirmed: asyncio.Future[Accepted] = loop.create_future()
        event_id = one.record.event_id if isinstance(one.record, Interaction) else None

        def reported(error: Any, message: Any) -> None:
            result: Accepted | LiverankError
            if error is not None:
                result = self._failure(str(message.topic()), error)
            else:
                result = Accepted(
                    topic=message.topic(), partition=message.partition(), offset=message.offset(), event_id=event_id
                )
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, confirmed, result)

        try:
            self._producer.produce(self._called(topic), value, key, on_delivery=reported)
        except BufferError:
            _settle(confirmed, Unavailable("too many records wait for the broker; send less at once, or later"))
        except KafkaException as error:
            _settle(confirmed, self._failure(self._called(topic), error.args[0]))
        return confirmed

    def _failure(self, topic: str, error: Any) -> LiverankError:
        if error.code() in _NO_TOPIC:
            return Refused(f"the topic {topic} does not exist; `liverank topics create` makes it")
        if error.code() in _FOR_GOOD:
            return Refused(undelivered(topic, error))
        self._broken = self._broken or bool(error.fatal())
        return Unavailable(undelivered(topic, error))

    def _poll(self) -> None:
        while not self._closed.is_set():
            try:
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                log.warning("the producer: %s", error)
                self._broken = True
            if self._broken and not len(self._producer):
                self._producer, self._broken = Producer(self._config, logger=log), False


def _settle(confirmed: asyncio.Future[Accepted], result: Accepted | LiverankError) -> None:
    if confirmed.done():
        return
    if isinstance(result, Accepted):
        confirmed.set_result(result)
    else:
        confirmed.set_exception(result)
