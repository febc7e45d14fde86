"""What a record may cost: itself. Which errors are one record's, and which end the process."""

from __future__ import annotations

import logging

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position

log = logging.getLogger(__name__)

#: The broker, the disk, the memory, and what was refused by name: no record's fault.
FATAL = (LiverankError, KafkaException, KafkaError, OSError, MemoryError)
#: Different records in a row that the code failed on, before it counts as broken and not they.
_MOST_FAILURES = 64


class Faults:
    """Tells a record that the code fails on from a code that fails on every record.

    The first becomes a dead letter, or is set aside, and the process goes on.
    """

    def __init__(self, most: int = _MOST_FAILURES) -> None:
        self._most = most
        self._failed: set[tuple[str, int, int]] = set()

    def sound(self) -> None:
        """A record went through: the code works."""
        if self._failed:
            self._failed.clear()

    def blamed(self, at: Position, error: Exception) -> InvalidRecord:
        """Why this record cannot be used, where that is the record's doing; to be called while the error is handled.

        Args:
            at: the record's place.
            error: what using it raised.

        Raises:
            Exception: the error itself, where it is the broker's or the disk's, or where too many different records
                in a row have failed.
        """
        if isinstance(error, InvalidRecord):
            return error
        self._failed.add((at.topic, at.partition, at.offset))
        if isinstance(error, FATAL) or len(self._failed) > self._most:
            raise error
        log.error("%s cannot be used, and that is a fault of ours", at.place, exc_info=error)
        return InvalidRecord(
            "internal",
            f"liverank fails on this record: {error!r:.500}. Please report it, with this dead letter and what the log "
            f"says of {at.place}; other records are not affected",
        )
