"""What could not be used, and why: the `dead-letters` topic."""

from __future__ import annotations

import msgspec

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import DeadLetter
from ranker.contracts.topics import DEAD_LETTERS
from streams.kafka.outbox import Outbox, Outgo
from streams.telemetry.metrics import Metrics

#: Most bytes of the input that its dead letter carries; the position names the whole of it.
VALUE_LIMIT = 64 << 10


class DeadLetters:
    """Sends dead letters. Like a ranking, one is confirmed before its input counts as handled."""

    def __init__(self, outbox: Outbox, metrics: Metrics) -> None:
        self._outbox = outbox
        self._metrics = metrics

    def send(self, at: Position, key: bytes | None, value: bytes | None, why: InvalidRecord) -> None:
        """Send an input's dead letter.

        Args:
            at: the input's place.
            key: its key, which the dead letter keeps.
            value: its bytes; none count as empty.
            why: what is wrong with it, and what would be right.
        """
        self._outbox.send(*self.letter(at, key, value, why))

    def letter(self, at: Position, key: bytes | None, value: bytes | None, why: InvalidRecord) -> Outgo:
        """The same as a record that the caller sends; it counts as sent."""
        letter = DeadLetter(
            reason=why.reason,
            error=why.error,
            topic=at.broker_topic,  # where it is to be found, whatever is mapped by then
            partition=at.partition,
            offset=at.offset,
            value=(value or b"")[:VALUE_LIMIT],
        )
        self._metrics.dead_letter(at.broker_topic, why.reason)
        return DEAD_LETTERS, key, msgspec.json.encode(letter)
