"""A user's state: the compact row, and the pure fold that makes it out of the user's inputs.

Kafka keeps no order between topics and delivers at least once, so the fold is commutative and idempotent:

* an input whose offset is not above the last applied one of its topic changes nothing;
* an event whose id is among the newest `window` events changes nothing but that offset;
* the history is the newest `window` distinct events by (ts, id), the current list the newest by (ts, request_id);
* the long-term summary is a sum of decayed counts, in cells that items hash to: a sum does not ask for an order.

Deduplication by event id reaches back `window` events. A repeat across topics that comes later than that counts again
in `count`, `revision` and the summary; never in the history.
"""

from __future__ import annotations

import hashlib
import math
import struct
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.errors import RowError
from ranker.contracts.records import Candidate, CandidateList, Context, Erasure, Interaction, User
from ranker.contracts.schema import FeatureSchema

#: One event of the history, 31 bytes: `id` and `item` are 8-byte hashes, `action` the schema's number.
EVENT = np.dtype(
    [("ts", "<i8"), ("id", "<i8"), ("item", "<i8"), ("action", "u1"), ("position", "<i2"), ("value", "<f4")]
)
_PACK = struct.Struct("<qqqBhf")
_ORDER = struct.Struct("<qq")
SUMMARY_CELLS = 64
ROW_VERSION = 1
_HOUR_MS = 3_600_000
NO_TIME = -(1 << 62)

Record = Interaction | CandidateList | User | Erasure


class Position(NamedTuple):
    """Where a message stands, and its own timestamp in milliseconds."""

    topic: str
    partition: int
    offset: int
    ts: int


class CurrentList(Struct, frozen=True, array_like=True):
    """The list that is being re-ranked. `features` is float32 [items, columns], NaN where a candidate has none."""

    ts: int
    request_id: str
    k: int | None
    context: Context
    item_ids: tuple[str, ...]
    columns: tuple[str, ...]
    features: bytes

    def column(self, name: str) -> np.ndarray | None:
        """float32 [items] of a named feature; None where no candidate carries it."""
        if name not in self.columns:
            return None
        matrix: np.ndarray = np.frombuffer(self.features, "<f4").reshape(len(self.item_ids), len(self.columns))
        return matrix[:, self.columns.index(name)]


class UserHistory(Struct, frozen=True, array_like=True):
    """The row. Fields are appended, never removed or moved: an older, shorter row decodes with the defaults.

    `revision` counts the inputs applied, `count` the distinct events; `events` is EVENT records, oldest first.
    """

    applied: dict[str, int] = {}
    revision: int = 0
    count: int = 0
    events: bytes = b""
    summary: bytes = b""
    summary_ts: int = NO_TIME
    candidates: CurrentList | None = None
    attributes: Context = {}
    erased_at: int = NO_TIME

    def visible(self, window: int) -> bytes:
        """The newest events that the model sees, at most `window`.

        Their start moves in steps of window / 2, so that an encoding extended event by event equals a full one: an
        event that a deeper layer has seen leaves only together with everything computed from it.
        """
        half = window // 2
        length = self.count if self.count <= window else half + 1 + (self.count - 1) % half
        return self.events[-length * EVENT.itemsize :] if length else b""

    @property
    def now(self) -> int:
        """The newest time this row knows of, in milliseconds: what ages are measured against."""
        newest = _ORDER.unpack_from(self.events, len(self.events) - EVENT.itemsize)[0] if self.events else NO_TIME
        return max(newest, self.candidates.ts if self.candidates else NO_TIME)

    def newest_items(self, count: int) -> list[int]:
        """Hashes of the items of the newest events, oldest first."""
        items: list[int] = np.frombuffer(self.events, EVENT)["item"][-count:].tolist()
        return items

    def long_term(self) -> np.ndarray:
        """float32 [SUMMARY_CELLS]: decayed counts as of `summary_ts`."""
        return np.frombuffer(self.summary, "<f4") if self.summary else np.zeros(SUMMARY_CELLS, "<f4")


EMPTY = UserHistory()


@lru_cache(maxsize=1 << 20)
def hash_id(name: str) -> int:
    """Signed 64-bit hash of an id; never 0, which stands for none."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1


def apply(row: UserHistory, record: Record, at: Position, schema: FeatureSchema) -> UserHistory:
    """The row after one input; the same object where the input was applied before.

    Args:
        row: the state so far.
        record: a decoded input, its optional `ts` and `event_id` filled in (see `ranker.contracts.decoding`).
        at: where the input stands in its topic.
        schema: names the window, the half-life and the actions' numbers.
    """
    if at.offset <= row.applied.get(at.topic, -1):
        return row
    applied = {**row.applied, at.topic: at.offset}
    if isinstance(record, Interaction):
        return _apply_event(row, record, applied, schema)
    if isinstance(record, CandidateList):
        return _apply_list(row, record, applied)
    if isinstance(record, User):
        return _replace(row, applied=applied, revision=row.revision + 1, attributes=record.attributes)
    return _apply_erasure(row, record, applied, schema)


def _apply_event(row: UserHistory, event: Interaction, applied: dict[str, int], schema: FeatureSchema) -> UserHistory:
    assert event.ts is not None
    assert event.event_id is not None
    event_id, item = hash_id(event.event_id), hash_id(event.item_id)
    if _holds(row.events, event_id):
        return _replace(row, applied=applied)
    if event.ts <= row.erased_at:
        return _replace(row, applied=applied, revision=row.revision + 1)
    position = -1 if event.position is None else event.position
    value = math.nan if event.value is None else event.value
    packed = _PACK.pack(event.ts, event_id, item, schema.action_number(event.action), position, value)
    summary, summary_ts = _count(row, item, event.ts, schema)
    return _replace(
        row,
        applied=applied,
        revision=row.revision + 1,
        count=row.count + 1,
        events=_insert(row.events, packed)[-schema.window * EVENT.itemsize :],
        summary=summary,
        summary_ts=summary_ts,
    )


def _apply_list(row: UserHistory, candidates: CandidateList, applied: dict[str, int]) -> UserHistory:
    assert candidates.ts is not None
    current = row.candidates
    newer = current is None or (candidates.ts, candidates.request_id) > (current.ts, current.request_id)
    if newer and candidates.ts > row.erased_at:
        current = current_list(candidates)
    return _replace(row, applied=applied, revision=row.revision + 1, candidates=current)


def _apply_erasure(row: UserHistory, erasure: Erasure, applied: dict[str, int], schema: FeatureSchema) -> UserHistory:
    """Drops all up to the erasure's time and remembers that time alone, so that what comes late stays forgotten."""
    assert erasure.ts is not None
    erased_at = max(erasure.ts, row.erased_at)
    events = np.frombuffer(row.events, EVENT)
    kept = events[events["ts"] > erased_at]
    fresh = UserHistory(erased_at=erased_at)
    for event in kept:
        summary, summary_ts = _count(fresh, int(event["item"]), int(event["ts"]), schema)
        fresh = _replace(fresh, summary=summary, summary_ts=summary_ts)
    current = row.candidates
    return _replace(
        fresh,
        applied=applied,
        revision=row.revision + 1,
        count=len(kept),
        events=kept.tobytes(),
        candidates=current if current is not None and current.ts > erased_at else None,
    )


def current_list(candidates: CandidateList) -> CurrentList:
    """The list as the row keeps it: of an item named twice the first stays."""
    assert candidates.ts is not None
    first: dict[str, Candidate] = {}
    for item in candidates.items:
        first.setdefault(item.item_id, item)
    items = list(first.values())
    names = sorted({name for item in items for name in item.features or ()})
    columns = (*(["score"] if any(item.score is not None for item in items) else []), *names)
    features = np.full((len(items), len(columns)), np.nan, "<f4")
    for line, item in zip(features, items, strict=True):
        known = {"score": item.score, **(item.features or {})}
        line[:] = [math.nan if (value := known.get(name)) is None else value for name in columns]
    return CurrentList(
        ts=candidates.ts,
        request_id=candidates.request_id,
        k=candidates.k,
        context=candidates.context or {},
        item_ids=tuple(item.item_id for item in items),
        columns=columns,
        features=features.tobytes(),
    )


def _replace(row: UserHistory, **changes: object) -> UserHistory:
    return msgspec.structs.replace(row, **changes)


def _holds(events: bytes, event_id: int) -> bool:
    return bool(events) and bool((np.frombuffer(events, EVENT)["id"] == event_id).any())


def _insert(events: bytes, packed: bytes) -> bytes:
    """Events stay ordered by (ts, id); nearly always the new one is the newest."""
    order, size = _ORDER.unpack_from(packed), EVENT.itemsize
    place = len(events)
    while place and _ORDER.unpack_from(events, place - size) > order:
        place -= size
    return events[:place] + packed + events[place:]


def _count(row: UserHistory, item: int, ts: int, schema: FeatureSchema) -> tuple[bytes, int]:
    """The summary with one more event: every cell is the sum of 2^(-age / half-life) as of the newest event's time."""
    cells = row.long_term()
    half_life = schema.half_life_hours * _HOUR_MS
    if ts >= row.summary_ts:
        scale = 2.0 ** ((row.summary_ts - ts) / half_life) if row.summary else 0.0
        cells, weight, newest = cells * np.float32(scale), 1.0, ts
    else:
        cells, weight, newest = cells.copy(), 2.0 ** ((ts - row.summary_ts) / half_life), row.summary_ts
    cells[item % SUMMARY_CELLS] += weight
    return cells.astype("<f4").tobytes(), newest


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserHistory)


def encode(row: UserHistory) -> bytes:
    """The row as stored: a version byte, then MessagePack."""
    return bytes((ROW_VERSION,)) + _encoder.encode(row)


def decode(stored: bytes) -> UserHistory:
    """The row that `encode` stored, by this version or an older one; an empty value is the empty row.

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
