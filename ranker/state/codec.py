"""The user's row as bytes: a version byte, then MessagePack. Every earlier version is read."""

from __future__ import annotations

import msgspec

from ranker.contracts.errors import RowError
from ranker.state.row import EMPTY, UserRow

ROW_VERSION = 1
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserRow)


def encode_row(row: UserRow) -> bytes:
    """The row as stored: a version byte, then MessagePack."""
    return bytes((ROW_VERSION,)) + _encoder.encode(row)


def decode_row(stored: bytes) -> UserRow:
    """The row that `encode_row` stored, by this version or an older one; an empty value is the empty row.

    Raises:
        RowError: the value is of a later version, or is no row.
    """
    if not stored:
        return EMPTY
    if stored[0] > ROW_VERSION:
        raise RowError(f"the row is of version {stored[0]}; this release reads versions up to {ROW_VERSION}")
    try:
        return _decoder.decode(memoryview(stored)[1:])
    except msgspec.DecodeError as error:
        raise RowError(f"the stored value is no user row: {error}") from error
