"""From a message's bytes to a record that the fold can take, or to the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.loose_values import LeftOut, as_meant
from ranker.contracts.records import (
    MAX_NUMBER,
    MAX_WORDS_LENGTH,
    CandidateList,
    Erasure,
    Interaction,
    Item,
    ItemVector,
    User,
)
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import ITEMS, TOPICS, USERS

#: What lies before the year 1990 is seconds where milliseconds belong, not behaviour.
EARLIEST_TS = 631_152_000_000
#: A film may be older than the epoch. But what lies within this of it, and further than a day, is a time in seconds.
_SECONDS_UNTIL, _DAY_MS = 4_200_000_000, 86_400_000


class Limits(Struct, frozen=True, kw_only=True):
    """What an input may be at most."""

    max_candidates: int = 1000
    max_message_bytes: int = 1 << 20
    max_ahead_ms: int = 300_000  # how far a timestamp may lie ahead of this machine's clock


Record = TypeVar("Record")
_vector = msgspec.json.Decoder(ItemVector)


def decoded(decoder: msgspec.json.Decoder[Record], value: bytes) -> Record:
    """The record of a message of a control or internal topic.

    Raises:
        InvalidRecord: it is none.
    """
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord("invalid", f"no record of its topic: {error}; see `liverank schema`") from error


#: An encoded text of 4,096 numbers; encoders give some hundreds.
MAX_VECTOR_BYTES = 8 << 10


def decode_vector(value: bytes) -> ItemVector:
    """The record of one message of `item-vectors`.

    Raises:
        InvalidRecord: it is none, or its vector is no float16 numbers, too many, or not finite.
    """
    if len(value) > 2 * MAX_VECTOR_BYTES:
        raise InvalidRecord(
            "too-large", f"the record has {len(value)} bytes; at most {2 * MAX_VECTOR_BYTES} are allowed"
        )
    record = decoded(_vector, value)
    size = len(record.vector)
    if size % 2 or not 0 < size <= MAX_VECTOR_BYTES:
        raise InvalidRecord(
            "invalid", f"the vector has {size} bytes; it must have 2 a number, and 2 to {MAX_VECTOR_BYTES}"
        )
    if not np.isfinite(np.frombuffer(record.vector, "<f2")).all():
        raise InvalidRecord("invalid", "the vector holds a number that is not finite; all must be")
    return record


#: Takes one of our topics and the bytes of a message of it, gives those of the record that it stands for.
Translate = Callable[[str, bytes], bytes]


class InputDecoder:
    """Decodes the messages of input topics by one schema and one set of limits."""

    def __init__(
        self,
        schema: FeatureSchema,
        limits: Limits | None = None,
        translated: Translate = lambda topic, value: value,
        left_out: Callable[[str, str], None] = lambda topic, name: None,
    ) -> None:
        """
        Args:
            schema: of the model.
            limits: what an input may be at most.
            translated: makes records of ours of what others send, see `ranker.mapping.topic_map`.
            left_out: hears the topic and the name of a declared feature or context field whose value is left out
                because it is none.
        """
        self.schema = schema
        self.limits = limits or Limits()
        self._translated, self._left_out = translated, left_out
        features, fields = schema.candidate_features, schema.context
        self._declared = {"score", *(one.name for one in features), *(one.name for one in fields)}

    def __call__(self, at: Position, key: bytes | None, value: bytes | None, now_ms: int) -> UserInput | Item | None:
        """The record of one message, its optional time and id filled in; None for a tombstone of `items`.

        Args:
            at: the message's topic, position and timestamp; these fill what the record leaves out.
            key: the message's key, which must be the record's own id.
            value: the message's bytes.
            now_ms: the present, in milliseconds: nothing may lie further ahead than `Limits.max_ahead_ms`.

        Raises:
            InvalidRecord: names what is wrong and what would be right.
        """
        name = TOPICS[at.topic].key
        text_key = self._key(key, name)
        if value is None and at.topic == ITEMS:
            return None
        if value is None and at.topic == USERS:
            return User(user_id=text_key, ts=self._time(None, at, now_ms))
        record = self._parse(at.topic, value)
        own = getattr(record, name)
        if own != text_key:
            raise InvalidRecord("key-mismatch", f"the key is {text_key!r} but {name} is {own!r}; they must be equal")
        if isinstance(record, Interaction):
            return self._interaction(record, at, now_ms)
        if isinstance(record, CandidateList):
            return self._candidates(record, at, now_ms)
        if isinstance(record, Erasure | User):
            return msgspec.structs.replace(record, ts=self._time(record.ts, at, now_ms))
        assert isinstance(record, Item)
        return self._item(record, now_ms)

    def _key(self, key: bytes | None, name: str) -> str:
        if not key:
            raise InvalidRecord("missing-key", f"the message has no key; it must be the {name}, in UTF-8")
        try:
            return key.decode()
        except UnicodeDecodeError as error:
            raise InvalidRecord("bad-key", f"the key is not UTF-8 ({error}); it must be the {name}") from error

    def _parse(self, topic: str, value: bytes | None) -> Struct:
        if value is None:
            raise InvalidRecord("null-value", f"the message has no body; {topic} takes a JSON object")
        if len(value) > self.limits.max_message_bytes:
            raise InvalidRecord(
                "too-large", f"the message has {len(value)} bytes; at most {self.limits.max_message_bytes} are allowed"
            )
        given = self._translated(topic, value)
        return as_taken(topic, given, lambda name: self._left_out(topic, name) if name in self._declared else None)

    def _interaction(self, event: Interaction, at: Position, now_ms: int) -> Interaction:
        implied = TOPICS[at.topic].action
        if implied and event.action not in (None, implied):
            raise InvalidRecord("unknown-action", f"{at.topic} implies {implied!r}, not {event.action!r}; leave it out")
        action = implied or event.action
        (self.schema.word_action_number if event.item_id is None else self.schema.action_number)(action)
        return msgspec.structs.replace(
            event,
            action=action,
            ts=self._time(event.ts, at, now_ms),
            event_id=event.event_id or at.event_id,
        )

    def _candidates(self, candidates: CandidateList, at: Position, now_ms: int) -> CandidateList:
        count, most = len(candidates.items), self.limits.max_candidates
        if not 1 <= count <= most:
            reason = "too-many-items" if count else "empty-list"
            raise InvalidRecord(reason, f"the list has {count} items; it must have 1 to {most}")
        ts, end = self._time(candidates.ts, at, now_ms), candidates.expires_at
        if end is not None and end < ts:
            raise InvalidRecord(
                "past-timestamp",
                f"expires_at is {end}, before the list's own time, {ts}; it must be milliseconds since the epoch, UTC",
            )
        return msgspec.structs.replace(candidates, ts=ts, expires_at=end)

    def _time(self, ts: int | None, at: Position, now_ms: int) -> int:
        """The record's own time, else its message's: both may lie where events can lie."""
        name = "the message's timestamp, which counts where the body has no ts," if ts is None else "ts"
        ts = at.ts if ts is None else ts
        self._not_ahead(ts, name, now_ms)
        if ts < EARLIEST_TS:
            raise InvalidRecord(
                "past-timestamp", f"{name} is {ts}, before the year 1990; it must be milliseconds since the epoch, UTC"
            )
        return ts

    def _item(self, item: Item, now_ms: int) -> Item:
        ts = item.published_at
        if ts is None:
            return item
        if ts in (0, -1):
            return msgspec.structs.replace(item, published_at=None)
        self._not_ahead(ts, "published_at", now_ms)
        if seconds_for_milliseconds(ts):
            raise InvalidRecord(
                "past-timestamp",
                f"published_at is {ts}, within 7 weeks of the epoch: seconds, most likely; it must be milliseconds "
                "since the epoch, UTC",
            )
        return item

    def _not_ahead(self, ts: int, name: str, now_ms: int) -> None:
        if ts > now_ms + self.limits.max_ahead_ms:
            raise InvalidRecord(
                "future-timestamp",
                f"{name} is {ts}, {(ts - now_ms) / 1000:.0f} s ahead; at most {self.limits.max_ahead_ms / 1000:.0f} s "
                "are allowed, in milliseconds since the epoch, UTC",
            )


def seconds_for_milliseconds(published_at: int) -> bool:
    """Whether a time at which an item was published is one in seconds, most likely, that was taken for milliseconds."""
    return _DAY_MS < abs(published_at) < _SECONDS_UNTIL


def _check_words(text: str | None, topic: str) -> None:
    """A text that is an event by itself.

    Raises:
        InvalidRecord: there is none, or it is too long.
    """
    if text is None or not text.strip():
        raise InvalidRecord(
            "invalid",
            f"there is no item_id, and no text that is not blank; {topic} requires user_id, item_id or a text",
        )
    if len(text) > MAX_WORDS_LENGTH:
        raise InvalidRecord(
            "invalid",
            f"the text has {len(text)} characters and there is no item_id; at most {MAX_WORDS_LENGTH} are allowed then",
        )


def as_taken(topic: str, value: bytes, left_out: LeftOut = lambda name: None) -> Struct:
    """The record of an input topic's message: as declared, else as `ranker.contracts.loose_values` reads it.

    Raises:
        InvalidRecord: it is none.
    """
    found = _as_declared(topic, value)
    if found is None:
        found = _as_meant(topic, value, left_out)
    if isinstance(found, Interaction) and found.item_id is None:
        _check_words(found.text, topic)
    return found


def _as_declared(topic: str, value: bytes) -> Struct | None:
    try:
        return _decoder_of(topic).decode(value)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(topic, error) from error


def _as_meant(topic: str, value: bytes, left_out: LeftOut) -> Struct:
    record = TOPICS[topic].record
    try:
        found: Struct = msgspec.convert(as_meant(record, msgspec.json.decode(value), left_out), record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(topic, error) from error
    return found


@lru_cache
def _decoder_of(topic: str) -> msgspec.json.Decoder[Struct]:
    return msgspec.json.Decoder(TOPICS[topic].record)


def _refused(topic: str, error: Exception) -> InvalidRecord:
    """What to say of a message that is no record of its topic."""
    if isinstance(error, msgspec.ValidationError):
        fields = msgspec.structs.fields(TOPICS[topic].record)
        wanted = ", ".join(field.name for field in fields if field.required)
        wanted += ", item_id or a text" if TOPICS[topic].record is Interaction else ""
        bound = f" (numbers lie within ±{MAX_NUMBER})" if "out of range" in str(error) else ""
        return InvalidRecord("invalid", f"{error}{bound}; {topic} requires {wanted}")
    if isinstance(error, RecursionError):
        return InvalidRecord(
            "invalid", f"values are nested too deeply to be read; {topic} takes a JSON object that is nearly flat"
        )
    return InvalidRecord("not-json", f"not JSON: {error}; {topic} takes a JSON object in UTF-8")
