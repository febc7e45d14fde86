"""Every record that crosses a topic, as frozen structs. JSON Schemas and the AsyncAPI document are generated from them.

Decoding is silent on unknown fields, so a producer may add fields before a consumer knows them, and strict on types but
for what `ranker.contracts.loose_values` says.
`ts` is milliseconds since the epoch, UTC, everywhere. Every number has bounds, which the JSON Schemas state too: within
them no arithmetic of the features, and no format that rows are stored in, leaves float32 or 64 bits.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ranker.contracts.path_names import PATH_NAME

#: The largest number of float32, and the largest integer that every reader of JSON keeps exactly.
MAX_NUMBER, MAX_INTEGER = 3.4028235e38, (1 << 53) - 1
#: Characters of a text that is an event by itself.
MAX_WORDS_LENGTH = 4096

Id = Annotated[str, Meta(min_length=1, max_length=256)]
#: What becomes part of a path: see `ranker.contracts.path_names`.
PathName = Annotated[str, Meta(pattern=PATH_NAME)]
Timestamp = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER, description="milliseconds since the epoch, UTC")]
#: When something happened. Not the epoch itself: 0 is how a time is written that is not known.
EventTime = Annotated[int, Meta(ge=1, le=MAX_INTEGER, description="milliseconds since the epoch, UTC")]
Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Count = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Offset = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
#: null is absent.
Context = dict[str, str | Number | bool | None]
#: Reasons of an item at most.
MOST_REASONS = 10
#: true is 1, false 0; null is a missing number.
FeatureValue = Number | bool | None


class Interaction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a user did with an item, or typed: the record of `interactions`, `clicks` and `views`.

    Without an `item_id` the `text` is the event: a search, a question, an answer.
    """

    user_id: Id
    item_id: Id | None = None  # else there is a `text`
    action: str | None = None  # implied on `clicks` and `views`, required on `interactions`
    event_id: Id | None = None  # else the message's position
    ts: EventTime | None = None  # else the message's
    request_id: Id | None = None
    position: Annotated[int, Meta(ge=0, le=32767)] | None = None
    value: Number | None = None
    text: str | None = None
    context: Context | None = None
    ranking_id: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None  # of the ranking that was shown
    revision: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] | None = None  # of the list's ranking that was shown


class Candidate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a candidate list, with what the recall stage knows of it."""

    item_id: Id
    score: Number | None = None
    features: dict[str, FeatureValue] | None = None  # those that the feature schema declares are kept


class CandidateList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recall stage's list for a user, in the order shown: one of the user's current lists, and asks for a ranking."""

    request_id: Id
    user_id: Id
    items: list[Candidate]
    ts: EventTime | None = None
    context: Context | None = None
    k: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)] | None = None
    expires_at: EventTime | None = None  # the last time at which an event makes a ranking of it; else a day after `ts`
    reasons: Annotated[int, Meta(ge=1, le=MOST_REASONS)] | None = None  # so many of each item, in each of its rankings


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of the catalogue; a tombstone on the topic withdraws it."""

    item_id: Id
    title: str | None = None
    text: str | None = None
    category: str | None = None
    tags: list[str] | None = None
    numeric: dict[str, Number] | None = None
    published_at: Timestamp | None = None  # 0 and -1: unknown


class User(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's attributes; the newest record by `ts` holds."""

    user_id: Id
    attributes: Context = msgspec.field(default_factory=dict)
    ts: EventTime | None = None  # else the message's


class Erasure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Forget everything about this user up to `ts`."""

    user_id: Id
    ts: EventTime | None = None


class ErasureReceipt(Struct, frozen=True, kw_only=True):
    """That a worker forgot a user, and what the row held up to `ts`. `user` is HMAC-SHA256 of the id, in hex."""

    user: str
    ts: Timestamp  # of the erasure
    forgotten_at: Timestamp
    events: int  # of the history
    lists: int
    attributes: int
    words: int = 0  # texts that the user typed, of which the row held vectors


class ItemVector(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item's text, encoded once. `vector` is little-endian float16, base64 in JSON; `text_hash` names the text."""

    item_id: Id
    encoder: PathName
    text_hash: Annotated[str, Meta(max_length=64)]
    vector: bytes


class Cause(Struct, frozen=True, kw_only=True):
    """The newest input behind a ranking."""

    kind: str
    topic: str
    partition: int
    offset: int
    ts: Timestamp
    event_id: str | None = None


class RankReason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is known, and what it is worth to an item of a ranking: the score minus the score without it.

    Where a rule or exploration moved the item, `effect` is what that adds to the score and `rank_without` where it
    would stand else.
    """

    kind: Literal["event", "words", "summary", "attribute", "context", "feature", "rule", "exploration"]
    name: str  # of an event or words the action; of a rule its setting; else the feature's, attribute's or field's
    effect: float
    words: str  # for a person, in English
    ts: Timestamp | None = None  # of an event, or of words
    item_id: str | None = None  # of an event, where its item is known
    related: dict[str, float] = {}  # how the event's item is related to this one, and what each relation alone is worth
    rank_without: int | None = None


class RankedItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a ranking. `probabilities` holds one number an action; `rank` counts from 1.

    A worker may be told to leave out the probabilities, or the score too.
    """

    item_id: str
    rank: int
    previous_rank: int | None
    score: float | None = None
    probabilities: dict[str, float] = {}
    propensity: float | None = None  # the chance of this rank, where the ranking explored
    reasons: list[RankReason] = []  # where the list asks for them, those that count most first


class Ranking(Struct, frozen=True, kw_only=True):
    """One of a user's current lists, re-ranked. Of several, the one with the highest (`epoch`, `revision`) holds.

    `applied` names the last offset of each topic that the ranking knows of. `model` and `delta` name the weights: the
    version, and the sequence of the last delta applied to it, 0 where none was.
    """

    ranking_id: str
    user_id: str
    revision: int
    applied: dict[str, int]
    request_id: str
    ts: Timestamp
    model: str
    cause: Cause
    items: list[RankedItem]
    delta: int = 0
    epoch: int = (
        0  # when the worker that began the user's state had got its partition, in ms: `revision` counts from there
    )


class Shown(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of the list of an earlier release's example: `statistics` are the item's as known when it was ranked."""

    item_id: str
    statistics: list[Count]
    rank: int | None = None  # where the ranking before the outcome had it, from 1
    propensity: float | None = None  # the chance of that rank, where the ranking explored


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the user did with a shown item."""

    item_id: str
    action: str
    ts: Timestamp
    event_id: str
    value: Number | None = None


class Example(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was shown, the state it was ranked from, and what happened (no `outcome`: nothing, in time).

    `example_id` is the same whenever and wherever the example is made, so that one which comes again is known. What is
    known of the C items of the state's list is in columns, little-endian, in the order in which the list came.
    """

    example_id: str
    user_id: str
    request_id: str
    ts: Timestamp
    model: str  # the version that ranked
    schema: str  # hash of the feature schema
    state: bytes  # the user's row before the outcome, with the one list; see ranker.state.fold
    statistics: bytes = b""  # float32 [C, 3] of each item, as known when the list was ranked
    ranks: bytes = b""  # int32 [C] in the ranking before the outcome, from 1, 0 where not shown; empty: not known
    propensities: bytes = b""  # float64 [C] chances of these ranks; empty: not known, or the ranking did not explore
    items: list[Shown] = []  # in an earlier release's example, in place of the columns
    outcome: Outcome | None = None
    late: bool = False  # the outcome came after the attribution window
    model_name: PathName | None = None  # whose version `model` is; absent in records of earlier releases


class ModelUpdate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bundle to serve, to stage, or to roll back to. `sha256` is the manifest's.

    Where clicks decided about a canary (`measured`), the first decision about the version counts and later ones do not.
    """

    model: PathName
    version: PathName
    sha256: str
    stage: str = "promoted"  # promoted, canary, pinned, rolled-back
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    reason: str | None = None
    ts: Timestamp = 0
    previous: PathName | None = None  # what served until then: where a rollback goes to
    measured: bool = False


class ModelDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Changed item rows between bundles: applied in order of `sequence`, only onto the version `base`.

    `offsets` says what the rows were learned from: `topic-partition` -> the offset after the last example.
    """

    model: PathName
    base: PathName
    sequence: Timestamp
    learned_until: Timestamp
    rows: dict[str, bytes]
    offsets: dict[str, Offset] = {}


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An input that could not be used. `value` is its bytes, cut past 64 KiB; the position names it for good."""

    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    value: bytes
