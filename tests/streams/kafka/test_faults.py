"""What a record may cost, and what no record may be blamed for."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from streams.kafka.admin import TopicError
from streams.kafka.faults import Faults
from streams.kafka.outbox import SendError


def at(offset: int) -> Position:
    return Position("clicks", 0, offset, 0)


def test_a_record_that_the_code_fails_on_is_named() -> None:
    """The dead letter says that it is our fault, what happened, and where to look."""
    why = Faults().blamed(at(7), KeyError("x"))
    assert why.reason == "internal"
    assert "KeyError" in why.error
    assert "clicks-0:7" in why.error


def test_a_refusal_stays_what_it_is() -> None:
    """It is no fault of ours, and none counts."""
    faults, refused = Faults(most=1), InvalidRecord("invalid", "no")
    assert all(faults.blamed(at(offset), refused) is refused for offset in range(5))


@pytest.mark.parametrize("error", [SendError("x"), TopicError("x"), KafkaException(), OSError(), MemoryError()])
def test_the_broker_and_the_disk_are_no_records_fault(error: Exception) -> None:
    """They end the process, whichever record was in work."""
    with pytest.raises(type(error)):
        Faults().blamed(at(1), error)


def test_a_code_that_fails_on_every_record_ends_the_process() -> None:
    """Different records in a row: one that comes again counts once, one that goes through begins the count anew."""
    faults = Faults(most=3)
    for offset in (1, 2, 3, 3, 2, 1):
        faults.blamed(at(offset), ValueError("x"))
    faults.sound()
    for offset in (4, 5, 6):
        faults.blamed(at(offset), ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        faults.blamed(at(7), ValueError("x"))
