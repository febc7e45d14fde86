"""The pure fold that makes a user's row out of the user's inputs.

Kafka keeps no order between topics and delivers at least once, so the fold is commutative and idempotent:

* an input whose offset is not above the last applied one of its topic changes nothing;
* an event whose id is among the newest `window` events changes nothing but that offset;
* the history is the newest `window` distinct events by (ts, id), the current list the newest by (ts, request_id);
* the long-term summary is a sum of decayed counts, in cells that items hash to: a sum does not ask for an order.

Deduplication by event id reaches back `window` events. A repeat across topics that comes later than that counts again
in `count`, `revision` and the summary; never in the history.
"""

from __future__ import annotations

import math
import struct

import msgspec
import numpy as np

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Context, Erasure, Interaction, User
from ranker.contracts.schema import FeatureSchema
from ranker.state.row import _ORDER, EVENT, SUMMARY_CELLS, CurrentList, KnownFields, UserRow

_PACK = struct.Struct("<qqqBhf")
_HOUR_MS = 3_600_000


def apply_input(row: UserRow, record: UserInput, at: Position, schema: FeatureSchema) -> UserRow:
    """The row after one input; the same object where the input was applied before.

    Args:
        row: the state so far.
        record: a decoded input, its optional `ts` and `event_id` filled in (see `ranker.contracts.decoding`).
        at: where the input stands in its topic.
        schema: names the window, the half-life and the actions' numbers.
    """
    # By the broker's name: a topic that is mapped anew is another one, whose offsets begin anew.
    if at.offset <= row.applied.get(at.broker_topic, -1):
        return row
    applied = {**row.applied, at.broker_topic: at.offset}
    if isinstance(record, Interaction):
        return _apply_event(row, record, applied, schema)
    if isinstance(record, CandidateList):
        return _apply_list(row, record, applied, schema)
    if isinstance(record, User):
        return _replace(row, applied=applied, revision=row.revision + 1, attributes=_known(record.attributes))
    return _apply_erasure(row, record, applied, schema)


def _apply_event(row: UserRow, event: Interaction, applied: dict[str, int], schema: FeatureSchema) -> UserRow:
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


def _apply_list(row: UserRow, candidates: CandidateList, applied: dict[str, int], schema: FeatureSchema) -> UserRow:
    assert candidates.ts is not None
    current = row.candidates
    newer = current is None or (candidates.ts, candidates.request_id) > (current.ts, current.request_id)
    if newer and candidates.ts > row.erased_at:
        current = current_list(candidates, schema)
    return _replace(row, applied=applied, revision=row.revision + 1, candidates=current)


def _apply_erasure(row: UserRow, erasure: Erasure, applied: dict[str, int], schema: FeatureSchema) -> UserRow:
    """Drops all up to the erasure's time and remembers that time alone, so that what comes late stays forgotten."""
    assert erasure.ts is not None
    erased_at = max(erasure.ts, row.erased_at)
    events = np.frombuffer(row.events, EVENT)
    kept = events[events["ts"] > erased_at]
    fresh = UserRow(erased_at=erased_at)
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


def current_list(candidates: CandidateList, schema: FeatureSchema) -> CurrentList:
    """The list as the row keeps it: of an item named twice the first stays, of features what the schema declares."""
    assert candidates.ts is not None
    first: dict[str, Candidate] = {}
    for item in candidates.items:
        first.setdefault(item.item_id, item)
    items = list(first.values())
    names = _carried(items, {feature.name for feature in schema.candidate_features})
    scored = "score" in names or any(item.score is not None for item in items)
    columns = (*(["score"] if scored else []), *sorted(names - {"score"}))
    features = np.full((len(items), len(columns)), np.nan, "<f4")
    for line, item in zip(features, items, strict=True):
        known = {"score": item.score, **(item.features or {})}
        line[:] = [_number(known.get(name)) for name in columns]
    return CurrentList(
        ts=candidates.ts,
        request_id=candidates.request_id,
        k=candidates.k,
        context=_known(candidates.context or {}),
        item_ids=tuple(item.item_id for item in items),
        columns=columns,
        features=features.tobytes(),
    )


def _carried(items: list[Candidate], declared: set[str]) -> set[str]:
    """Names of the declared features that some candidate carries."""
    return {name for item in items for name in item.features or () if name in declared}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _known(fields: Context) -> KnownFields:
    return {name: value for name, value in fields.items() if value is not None}


def _replace(row: UserRow, **changes: object) -> UserRow:
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


def _count(row: UserRow, item: int, ts: int, schema: FeatureSchema) -> tuple[bytes, int]:
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
