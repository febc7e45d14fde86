"""The pure fold that makes a user's row out of the user's inputs.

Kafka keeps no order between topics and delivers at least once, so the fold is commutative and idempotent:

* an input whose offset is not above the last applied one of its topic changes nothing; of a topic made anew, which has
  another id, none was applied;
* an event is named by (event_id, item_id, action): one that is among the newest `window` events is a repeat. It changes
  nothing but that offset; of two different records of one name the one with the smaller (ts, value) holds;
* the history is the newest `window` distinct events by (ts, key);
* of a request the newest record by ts is its list, and the lists are the newest few by (ts, request_id). One that an
  event or another list is later than `expires_at` has ended: it holds its place, and its content is gone;
* the attributes are those of the newest record of `users`;
* the long-term summary is a sum of decayed counts, in cells that items hash to: a sum does not ask for an order;
* what the user typed is the newest few texts (`state.words`). An event of a text alone is in nothing else: not in the
  history, its count or the summary;
* whatever is not later than the user's newest erasure never was, whether it comes before it or after.

So whatever the order, history, lists, attributes and time of erasure are the same. Repeats are known among the newest
`window` events, and of texts alone among those that are kept. One that comes later counts again in `count`, `revision`
and the summary, as does in `revision` one of an event that was erased; and of two different records of one name both
do, where more than a window lies between them.
"""

from __future__ import annotations

import math
import struct

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Context, Erasure, Interaction, User
from ranker.contracts.schema import FeatureSchema
from ranker.state.row import (
    _ORDER,
    EVENT,
    NO_TIME,
    SUMMARY_CELLS,
    CurrentList,
    KnownFields,
    UserRow,
    event_key,
    list_tag,
)
from ranker.state.words import EncodedText, Words, among_words

_PACK = struct.Struct("<qqqBhfI")
_KEY_AT = 8  # where `id` begins in an EVENT
_HOUR_MS = 3_600_000
_FAR = 60.0  # half-lives, after which nothing is left
_uncached = hash_id.__wrapped__  # ids of events are seen once: they would only push items out of the cache
_content = msgspec.msgpack.Encoder(order="deterministic").encode


class RowRules(Struct, frozen=True, kw_only=True):
    """What the operator says about rows: how many lists are current at once, and how long one is that does not say."""

    lists: int = 3
    list_hours: float = 24.0


DEFAULT_RULES = RowRules()


def apply_input(
    row: UserRow,
    record: UserInput,
    at: Position,
    schema: FeatureSchema,
    rules: RowRules = DEFAULT_RULES,
    typed: EncodedText | None = None,
) -> UserRow:
    """The row after one input; the same object where the input was applied before.

    Args:
        row: the state so far.
        record: a decoded input, its optional `ts` and `event_id` filled in (see `ranker.contracts.decoding`).
        at: where the input stands in its topic.
        schema: names the window, the half-life and the actions' numbers.
        rules: the operator's.
        typed: the record's text, encoded; None where it has none, or nobody could encode it.
    """
    # By the broker's name: a topic that is mapped anew is another one, whose offsets begin anew.
    topic = at.broker_topic
    known = row.topics.get(topic, b"")
    anew = bool(known and at.topic_id) and known != at.topic_id
    if at.offset <= row.applied.get(topic, -1) and not anew:
        return row
    if at.topic_id not in (b"", known):
        row = _replace(row, topics={**row.topics, topic: at.topic_id})
    applied = {**row.applied, topic: at.offset}
    if isinstance(record, Interaction):
        return _apply_event(row, record, at, applied, schema, typed)
    if isinstance(record, CandidateList):
        return _apply_list(row, record, applied, schema, rules)
    if isinstance(record, User):
        return _apply_attributes(row, record, at.ts if record.ts is None else record.ts, applied)
    return _apply_erasure(row, record, applied, schema)


def _apply_event(
    row: UserRow,
    event: Interaction,
    at: Position,
    applied: dict[str, int],
    schema: FeatureSchema,
    typed: EncodedText | None,
) -> UserRow:
    assert event.ts is not None
    assert event.event_id is not None
    if event.ts <= row.erased_at:
        return _replace(row, applied=applied, revision=row.revision + 1)
    # A position alone would name an event of the topic that was there before as well.
    own = event.event_id if event.event_id != at.event_id else at.event_id + at.topic_id.hex()
    if event.item_id is None:
        return _apply_words(row, event, own, applied, schema, typed)
    item, action = hash_id(event.item_id), schema.action_number(event.action)
    key = event_key(_uncached(own), item, action)
    if typed is not None:
        row = _replace(row, words=among_words(row.words, _words(event.ts, key, action, item, typed)))
    position = -1 if event.position is None else event.position
    value = math.nan if event.value is None else event.value
    tag = 0 if event.request_id is None else list_tag(event.request_id)
    packed = _PACK.pack(event.ts, key, item, action, position, value, tag)
    changes: dict[str, object] = {}
    known = _place(row.events, packed)
    if known is not None:
        row = _first_of(row, known, packed, schema)
    else:
        summary, summary_ts = _count(row, item, event.ts, schema)
        events = _insert(row.events, packed)[-schema.window * EVENT.itemsize :]
        changes = {"count": row.count + 1, "events": events, "summary": summary, "summary_ts": summary_ts}
    newest = max(row.newest, event.ts)
    return _replace(
        row,
        applied=applied,
        revision=row.revision + (known is None),
        newest=newest,
        lists=_kept(row.lists, newest),
        **changes,
    )


def _apply_words(
    row: UserRow,
    event: Interaction,
    own: str,
    applied: dict[str, int],
    schema: FeatureSchema,
    typed: EncodedText | None,
) -> UserRow:
    """A text that is about no item: it is kept among the newest, and it ends lists as any event does."""
    assert event.ts is not None
    action = schema.word_action_number(event.action)
    key = event_key(_uncached(own), 0, action)
    repeated = any(one.key == key for one in row.words)
    newest = max(row.newest, event.ts)
    return _replace(
        row,
        applied=applied,
        revision=row.revision + (not repeated),
        newest=newest,
        lists=_kept(row.lists, newest),
        words=among_words(row.words, _words(event.ts, key, action, 0, typed)),
    )


def _words(ts: int, key: int, action: int, item: int, typed: EncodedText | None) -> Words:
    return Words(ts, key, action, item, *(("", b"") if typed is None else (typed.encoder, typed.vector)))


def _first_of(row: UserRow, place: int, packed: bytes, schema: FeatureSchema) -> UserRow:
    """The row with one of two records of an event: nearly always they are the same."""
    size = EVENT.itemsize
    stored = row.events[place : place + size]
    if stored == packed or _strength(packed) >= _strength(stored):
        return row
    events = _insert(row.events[:place] + row.events[place + size :], packed)
    if row.count <= schema.window:  # all of them are there: the sum is made anew, exactly
        return _summed(_replace(row, events=events), schema)
    _, _, item, *_ = _PACK.unpack(stored)
    summary, summary_ts = _count(row, item, _ORDER.unpack_from(stored)[0], schema, -1.0)
    row = _replace(row, events=events, summary=summary, summary_ts=summary_ts)
    summary, summary_ts = _count(row, item, _ORDER.unpack_from(packed)[0], schema)
    return _replace(row, summary=summary, summary_ts=summary_ts)


def _strength(packed: bytes) -> tuple[float, ...]:
    """Of two records of one event the one where this is smaller holds: by time, then by value, none before any."""
    ts, _, _, _, position, value, tag = _PACK.unpack(packed)
    return ts, -math.inf if math.isnan(value) else value, position, tag


def _apply_list(
    row: UserRow, candidates: CandidateList, applied: dict[str, int], schema: FeatureSchema, rules: RowRules
) -> UserRow:
    assert candidates.ts is not None
    if candidates.ts <= row.erased_at:
        return _replace(row, applied=applied, revision=row.revision + 1)
    lists = _among(row.lists, current_list(candidates, schema, rules), rules.lists)
    newest = max(row.newest, candidates.ts)
    return _replace(row, applied=applied, revision=row.revision + 1, newest=newest, lists=_kept(lists, newest))


def _among(lists: tuple[CurrentList, ...], made: CurrentList, most: int) -> tuple[CurrentList, ...]:
    """The newest lists with one more, which takes the place of an older one of its request."""
    same = next((listed for listed in lists if listed.request_id == made.request_id), None)
    if same is not None and not _replaces(made, same):
        return lists
    others = (listed for listed in lists if listed is not same)
    return tuple(sorted((*others, made), key=lambda listed: (listed.ts, listed.request_id))[-most:])


def _replaces(made: CurrentList, same: CurrentList) -> bool:
    """Whether a list holds in place of another of its request: the newer one, and of two at one time the one that
    lasts longer, then either, as long as it is the same in any order."""
    if (made.ts, made.expires_at) != (same.ts, same.expires_at):
        return (made.ts, made.expires_at) > (same.ts, same.expires_at)
    return bool(same.item_ids) and _content(made) > _content(same)


def _kept(lists: tuple[CurrentList, ...], newest: int) -> tuple[CurrentList, ...]:
    """The lists as of a time: those that are out of date end.

    They keep their places: an older list that lasts longer, and comes later, must not be current or not by the order.
    """
    for listed in lists:
        if newest > listed.expires_at and listed.item_ids:
            break
    else:
        return lists
    return tuple(one.ended() if newest > one.expires_at and one.item_ids else one for one in lists)


def _apply_attributes(row: UserRow, user: User, ts: int, applied: dict[str, int]) -> UserRow:
    """The newest attributes hold; of two at one time either, as long as it is the same in any order."""
    row = _replace(row, applied=applied, revision=row.revision + 1)
    known = _known(user.attributes)
    if ts <= row.erased_at or ts < row.attributes_ts:
        return row
    if ts == row.attributes_ts and _content(known) <= _content(row.attributes):
        return row
    return _replace(row, attributes=known, attributes_ts=ts)


def _apply_erasure(row: UserRow, erasure: Erasure, applied: dict[str, int], schema: FeatureSchema) -> UserRow:
    """Drops all up to the erasure's time and remembers that time alone, so that what comes late stays forgotten."""
    assert erasure.ts is not None
    row = _replace(row, applied=applied, revision=row.revision + 1)
    erased_at = erasure.ts
    if erased_at <= row.erased_at:
        return row
    events = np.frombuffer(row.events, EVENT)
    kept = events[events["ts"] > erased_at]
    stays = row.attributes_ts > erased_at
    row = _replace(
        row,
        count=len(kept),
        events=kept.tobytes(),
        lists=tuple(listed for listed in row.lists if listed.ts > erased_at),
        attributes=row.attributes if stays else {},
        attributes_ts=row.attributes_ts if stays else NO_TIME,
        words=tuple(one for one in row.words if one.ts > erased_at),
        newest=row.newest if row.newest > erased_at else NO_TIME,
        erased_at=erased_at,
    )
    return _summed(row, schema)


def current_list(candidates: CandidateList, schema: FeatureSchema, rules: RowRules = DEFAULT_RULES) -> CurrentList:
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
    lasts = round(rules.list_hours * _HOUR_MS)
    return CurrentList(
        ts=candidates.ts,
        request_id=candidates.request_id,
        k=candidates.k,
        context=_known(candidates.context or {}),
        item_ids=tuple(item.item_id for item in items),
        columns=columns,
        features=features.tobytes(),
        expires_at=candidates.ts + lasts if candidates.expires_at is None else candidates.expires_at,
        reasons=candidates.reasons or 0,
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


def _place(events: bytes, packed: bytes) -> int | None:
    """Where the event of the same key begins among these; None where it is not there."""
    key = packed[_KEY_AT : _KEY_AT + 8]
    found = events.find(key)
    while found >= 0 and found % EVENT.itemsize != _KEY_AT:  # by chance, across two fields
        found = events.find(key, found + 1)
    return None if found < 0 else found - _KEY_AT


def _insert(events: bytes, packed: bytes) -> bytes:
    """Events stay ordered by (ts, id); nearly always the new one is the newest."""
    order, size = _ORDER.unpack_from(packed), EVENT.itemsize
    place = len(events)
    while place and _ORDER.unpack_from(events, place - size) > order:
        place -= size
    return events[:place] + packed + events[place:]


def _summed(row: UserRow, schema: FeatureSchema) -> UserRow:
    """The row with its summary made anew of the events that it holds."""
    events = np.frombuffer(row.events, EVENT)
    if not len(events):
        return _replace(row, summary=b"", summary_ts=NO_TIME)
    newest = int(events["ts"][-1])
    weights = np.exp2((events["ts"] - newest) / (schema.half_life_hours * _HOUR_MS))
    cells = np.bincount(events["item"] % SUMMARY_CELLS, weights, SUMMARY_CELLS)
    return _replace(row, summary=cells.astype("<f4").tobytes(), summary_ts=newest)


def without_event(row: UserRow, place: int, schema: FeatureSchema) -> UserRow:
    """The row as it would be if one of its events had never come, as far as it holds the others: one that the window
    has let go of does not come back. No input does that: it is for who asks what an event is worth.

    Args:
        row: any.
        place: the byte of `row.events` at which the event begins.
        schema: the row's.
    """
    stored = row.events[place : place + EVENT.itemsize]
    short = _replace(row, events=row.events[:place] + row.events[place + EVENT.itemsize :], count=row.count - 1)
    if row.count <= schema.window or not short.events:
        return _summed(short, schema)
    ts, _, item, *_ = _PACK.unpack(stored)
    summary, summary_ts = _count(row, item, ts, schema, -1.0)
    ahead = min((summary_ts - short.newest_event) / (schema.half_life_hours * _HOUR_MS), _FAR)
    cells = np.maximum(np.frombuffer(summary, "<f4"), 0) * np.float32(2.0 ** max(ahead, 0.0))
    return _replace(short, summary=cells.tobytes(), summary_ts=min(summary_ts, short.newest_event))


def _count(row: UserRow, item: int, ts: int, schema: FeatureSchema, times: float = 1.0) -> tuple[bytes, int]:
    """The summary with one more event: every cell is the sum of 2^(-age / half-life) as of the newest event's time."""
    cells = row.long_term()
    half_life = schema.half_life_hours * _HOUR_MS
    if ts >= row.summary_ts:
        scale = 2.0 ** ((row.summary_ts - ts) / half_life) if row.summary else 0.0
        cells, weight, newest = cells * np.float32(scale), 1.0, ts  # float32, as it is stored
    else:
        cells, weight, newest = cells.copy(), 2.0 ** ((ts - row.summary_ts) / half_life), row.summary_ts
    cells[item % SUMMARY_CELLS] += times * weight
    return cells.tobytes(), newest
