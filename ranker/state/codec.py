"""The user's row as bytes: a version byte, then MessagePack. Every earlier version is read."""

from __future__ import annotations

import msgspec

from ranker.contracts.errors import LaterRow, RowError
from ranker.state.row import EMPTY, EVENT, SUMMARY_CELLS, UserRow

ROW_VERSION = 1
#: A first byte up to here is the version of a release to come; what is beyond it is damage.
_LATEST_THINKABLE = 15
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserRow)


def encode_row(row: UserRow) -> bytes:
    """The row as stored: a version byte, then MessagePack."""
    return bytes((ROW_VERSION,)) + _encoder.encode(row)


def decode_row(stored: bytes) -> UserRow:
    """The row that `encode_row` stored, by this version or an older one; an empty value is the empty row.

    Raises:
        LaterRow: the value is of a later release's version.
        RowError: the value is no row.
    """
    if not stored:
        return EMPTY
    if ROW_VERSION < stored[0] <= _LATEST_THINKABLE:
        raise LaterRow(f"the row is of version {stored[0]}; this release reads versions up to {ROW_VERSION}")
    if stored[0] > ROW_VERSION:
        raise RowError(
            f"the row is of version {stored[0]}, which no release has; valid are versions up to {ROW_VERSION}"
        )
    try:
        row = _decoder.decode(memoryview(stored)[1:])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RowError(f"the stored value is no user row: {error}") from error
    _check_sizes(row)
    return row


def _check_sizes(row: UserRow) -> None:
    """The arrays within a row are whole."""
    if len(row.events) % EVENT.itemsize:
        raise RowError(f"the events have {len(row.events)} bytes; they must be a multiple of {EVENT.itemsize}")
    if len(row.summary) not in (0, 4 * SUMMARY_CELLS):
        raise RowError(f"the summary has {len(row.summary)} bytes; it must have {4 * SUMMARY_CELLS}, or none")
    current = row.candidates
    if current is None:
        return
    wanted = 4 * len(current.item_ids) * len(current.columns)
    if not current.item_ids or len(current.features) != wanted:
        raise RowError(
            f"the list has {len(current.features)} bytes of features; {len(current.item_ids)} items with "
            f"{len(current.columns)} columns must have {wanted}, and there must be an item"
        )
