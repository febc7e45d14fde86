"""Rows of version 1, of earlier releases: with one list, events without the list that they name, attributes without
their time. Read as what version 2 makes of the same inputs.
"""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import Struct

from ranker.state.row import EVENT, NO_TIME, CurrentList, KnownFields, UserRow, event_key

_EVENT = np.dtype(EVENT.descr[:-1])  # `id` is the hash of the event's id alone
_DAY_MS = 86_400_000  # after its time a list is out of date


class _Row(Struct, frozen=True, array_like=True):
    applied: dict[str, int] = {}
    revision: int = 0
    count: int = 0
    events: bytes = b""
    summary: bytes = b""
    summary_ts: int = NO_TIME
    candidates: CurrentList | None = None
    attributes: KnownFields = {}
    erased_at: int = NO_TIME


_decode = msgspec.msgpack.Decoder(_Row).decode


def decode_version_1(packed: bytes | memoryview) -> UserRow:
    """The row of version 1 after its version byte.

    Raises:
        DecodeError: it is none.
        ValueError: its events are not whole.
    """
    row = _decode(packed)
    events = _events(row.events)
    listed = row.candidates
    newest = max([NO_TIME, *events["ts"].tolist(), *([] if listed is None else [listed.ts])])
    if listed is not None:
        # One that is out of date ends with the next input: in an example the row is as it was.
        listed = msgspec.structs.replace(listed, expires_at=min(listed.ts + _DAY_MS, 1 << 62))
    return UserRow(
        applied=row.applied,
        revision=row.revision,
        count=row.count,
        events=events.tobytes(),
        summary=row.summary,
        summary_ts=row.summary_ts,
        lists=() if listed is None else (listed,),
        attributes=row.attributes,
        erased_at=row.erased_at,
        newest=newest,
    )


def _events(packed: bytes) -> np.ndarray:
    """EVENT [n]: named by the keys of now, so that what comes again is known, and in the order of now."""
    if len(packed) % _EVENT.itemsize:
        raise ValueError(f"the events have {len(packed)} bytes; they must be a multiple of {_EVENT.itemsize}")
    before = np.frombuffer(packed, _EVENT)
    events = np.zeros(len(before), EVENT)
    for name in before.dtype.names or ():
        events[name] = before[name]
    keys = [event_key(*event) for event in before[["id", "item", "action"]].tolist()]
    events["id"] = np.array(keys, np.int64)
    return events[np.lexsort((events["id"], events["ts"]))]
