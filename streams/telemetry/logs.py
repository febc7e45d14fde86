"""What the worker's log leaves out, so that what matters can be seen."""

from __future__ import annotations

import logging
from time import monotonic

_AGAIN_AFTER_S = 10.0
#: aiokafka's loggers that tell of every attempt to reach a broker. A filter holds for one logger, not for its children.
_REPETITIVE = (
    "aiokafka",
    "aiokafka.conn",
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
    "aiokafka.producer.producer",
)


class Seldom(logging.Filter):
    """Lets each message through once in ten seconds, whatever its arguments: a lost broker is no news twenty times a
    second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is news."""
        told, now = (record.name, str(record.msg)), monotonic()
        if now - self._said.get(told, -_AGAIN_AFTER_S) < _AGAIN_AFTER_S:
            return False
        self._said[told] = now
        return True


def quieten() -> None:
    """Leave out what Faust's services say of their own lives, a traceback for each where one crashes, and repetitions.

    What ends the process is said by the worker, once.
    """
    for library in ("faust", "mode"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    reading = [f"streams.kafka.consuming.{part}" for part in ("consumer", "faust_consumer", "member")]
    for ours in ("streams.assembly", *reading, "streams.state.store", "streams.state.recovery"):
        logging.getLogger(ours).addFilter(lambda record: not str(record.msg).startswith("[^"))
    seldom = Seldom()
    for ours in ("streams.kafka.outbox", "streams.kafka.consuming.assigned"):
        logging.getLogger(ours).addFilter(seldom)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    for part in _REPETITIVE:
        logging.getLogger(part).addFilter(seldom)
