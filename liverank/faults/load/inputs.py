"""What is sent, and what is to come of it."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from msgspec import Struct


class InputPlace(NamedTuple):
    """Where the broker put a record."""

    topic: str  # as the broker calls it
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}:{self.offset}"


class Planned(Struct, frozen=True, kw_only=True):
    """A record that is to be sent to one of our topics."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int | None = None  # of the message, milliseconds; None: when it is sent
    codec: str = ""  # which compresses it; none where empty
    reason: str | None = None  # of the dead letter that it deserves; None: it deserves none
    example: str | None = None  # the id of the example that comes of it; None: nothing is said of examples


class Recorded(Struct, frozen=True, kw_only=True):
    """A record that was sent: what it was, and where the broker says that it is."""

    planned: Planned
    place: InputPlace | None = None  # None: the broker did not acknowledge it


def record_digest(key: bytes | None, value: bytes | None) -> bytes:
    """What a record is known by when it is read back: 16 bytes of its key and value."""
    parts = (b"" if part is None else b"\1" + part for part in (key, value))
    return blake2b(b"\0".join(parts), digest_size=16).digest()
