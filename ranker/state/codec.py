"""The user's row as bytes: a version byte, then MessagePack. Every earlier version is read.

A row is one value where it travels, in an example. Where it is stored it is several, so that an event rewrites only the
first: the *head*, under the user's key, and each list under a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from ranker.contracts.errors import LaterRow, RowError
from ranker.state.row import EMPTY, EVENT, SUMMARY_CELLS, CurrentList, UserRow
from ranker.state.version_1 import decode_version_1

ROW_VERSION = 2
#: A first byte up to here is the version of a release to come; what is beyond it is damage.
_LATEST_THINKABLE = 15
#: Between a user's id and a request's in the key of a list: no byte of UTF-8, so no user's key is like it.
_BETWEEN = b"\xff"
_encoder = msgspec.msgpack.Encoder()
_rows = msgspec.msgpack.Decoder(UserRow)
_lists = msgspec.msgpack.Decoder(CurrentList)

_Decoded = TypeVar("_Decoded")


def encode_row(row: UserRow) -> bytes:
    """The row, its lists included, as one value."""
    return bytes((ROW_VERSION,)) + _encoder.encode(row)


def encode_head(row: UserRow) -> bytes:
    """The row as stored under the user's key: of its lists the names and times alone."""
    return encode_row(msgspec.structs.replace(row, lists=tuple(listed.ended() for listed in row.lists)))


def encode_list(listed: CurrentList) -> bytes:
    """A list as stored under its own key."""
    return bytes((ROW_VERSION,)) + _encoder.encode(listed)


def list_prefix(user: bytes) -> bytes:
    """What the keys of a user's lists begin with, and no other key."""
    return user + _BETWEEN


def list_key(user: bytes, request_id: str) -> bytes:
    """The key under which a user's list is stored."""
    return list_prefix(user) + request_id.encode()


def renamed(key: bytes, name_of: Callable[[bytes], bytes]) -> bytes:
    """The key of a head or a list, with another name in the user's place."""
    user, between, request = key.partition(_BETWEEN)
    return name_of(user) + between + request


def decode_row(stored: bytes) -> UserRow:
    """The row that `encode_row` gave, of this version or an older one; an empty value is the empty row.

    Raises:
        LaterRow: the value is of a later release's version.
        RowError: the value is no row.
    """
    if not stored:
        return EMPTY
    _check_version(stored)
    if stored[0] == 1:
        try:
            row = decode_version_1(memoryview(stored)[1:])
        except (ValueError, RecursionError) as error:  # DecodeError and UnicodeDecodeError among them
            raise RowError(f"the stored value is no user row of version 1: {error}") from error
    else:
        row = _decoded(_rows, stored)
    _check_sizes(row)
    return row


def decode_list(stored: bytes) -> CurrentList:
    """The list that `encode_list` gave.

    Raises:
        LaterRow, RowError: as for `decode_row`.
    """
    _check_version(stored)
    listed = _decoded(_lists, stored)
    _check_list(listed)
    return listed


def assembled(head: UserRow, lists: Mapping[str, CurrentList]) -> UserRow:
    """The row of a head and the lists that are stored beside it, by their requests.

    A list is written before the head that knows of it. After a kill between the two it is newer than the head says, and
    its record comes again. One that is not there was taken away just before the head that knows of that was written.
    """
    if not head.lists:
        return head
    found = []
    for known in head.lists:
        listed = lists.get(known.request_id, known)
        inline = bool(known.item_ids) or head.newest > known.expires_at
        found.append(known if inline or listed.ts < known.ts else listed)
    return msgspec.structs.replace(head, lists=tuple(sorted(found, key=lambda one: (one.ts, one.request_id))))


def _check_version(stored: bytes) -> None:
    version = stored[0] if stored else 0
    if ROW_VERSION < version <= _LATEST_THINKABLE:
        raise LaterRow(f"the row is of version {version}; this release reads versions up to {ROW_VERSION}")
    if not 1 <= version <= ROW_VERSION:
        raise RowError(f"the row is of version {version}, which no release has; valid are versions up to {ROW_VERSION}")


def _decoded(decoder: msgspec.msgpack.Decoder[_Decoded], stored: bytes) -> _Decoded:
    try:
        return decoder.decode(memoryview(stored)[1:])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RowError(f"the stored value is no user row: {error}") from error


def _check_sizes(row: UserRow) -> None:
    """The arrays within a row are whole."""
    if len(row.events) % EVENT.itemsize:
        raise RowError(f"the events have {len(row.events)} bytes; they must be a multiple of {EVENT.itemsize}")
    if len(row.summary) not in (0, 4 * SUMMARY_CELLS):
        raise RowError(f"the summary has {len(row.summary)} bytes; it must have {4 * SUMMARY_CELLS}, or none")
    for listed in row.lists:
        _check_list(listed)


def _check_list(listed: CurrentList) -> None:
    wanted = 4 * len(listed.item_ids) * len(listed.columns)
    if len(listed.features) != wanted:
        raise RowError(
            f"the list has {len(listed.features)} bytes of features; {len(listed.item_ids)} items with "
            f"{len(listed.columns)} columns must have {wanted}"
        )
