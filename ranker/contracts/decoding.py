"""From a message's bytes to a record that the fold can take, or to the reason why not."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec import Struct

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import ITEMS, TOPICS, USERS

#: What lies before the year 1990 is seconds where milliseconds belong, not behaviour.
EARLIEST_TS = 631_152_000_000


class Limits(Struct, frozen=True, kw_only=True):
    """What an input may be at most."""

    max_candidates: int = 1000
    max_message_bytes: int = 1 << 20
    max_ahead_ms: int = 300_000  # how far a timestamp may lie ahead of this machine's clock


class InputDecoder:
    """Decodes the messages of one input topic by one schema and one set of limits."""

    def __init__(self, schema: FeatureSchema, limits: Limits | None = None) -> None:
        self.schema = schema
        self.limits = limits or Limits()

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
            return User(user_id=text_key)
        record = self._parse(at.topic, value)
        own = getattr(record, name)
        if own != text_key:
            raise InvalidRecord("key-mismatch", f"the key is {text_key!r} but {name} is {own!r}; they must be equal")
        if isinstance(record, Interaction):
            return self._interaction(record, at, now_ms)
        if isinstance(record, CandidateList):
            return self._candidates(record, at, now_ms)
        if isinstance(record, Erasure):
            return msgspec.structs.replace(record, ts=self._time(record.ts, at, now_ms))
        assert isinstance(record, Item | User)
        return record

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
        try:
            return _decoder_of(topic).decode(value)
        except msgspec.ValidationError as error:
            wanted = ", ".join(field.name for field in msgspec.structs.fields(TOPICS[topic].record) if field.required)
            raise InvalidRecord("invalid", f"{error}; {topic} requires {wanted}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRecord("not-json", f"not JSON: {error}; {topic} takes a JSON object in UTF-8") from error

    def _interaction(self, event: Interaction, at: Position, now_ms: int) -> Interaction:
        implied = TOPICS[at.topic].action
        if implied and event.action not in (None, implied):
            raise InvalidRecord("unknown-action", f"{at.topic} implies {implied!r}, not {event.action!r}; leave it out")
        action = implied or event.action
        self.schema.action_number(action)
        return msgspec.structs.replace(
            event,
            action=action,
            ts=self._time(event.ts, at, now_ms),
            event_id=event.event_id or f"{at.topic}-{at.partition}-{at.offset}",
        )

    def _candidates(self, candidates: CandidateList, at: Position, now_ms: int) -> CandidateList:
        count, most = len(candidates.items), self.limits.max_candidates
        if not 1 <= count <= most:
            reason = "too-many-items" if count else "empty-list"
            raise InvalidRecord(reason, f"the list has {count} items; it must have 1 to {most}")
        return msgspec.structs.replace(candidates, ts=self._time(candidates.ts, at, now_ms))

    def _time(self, ts: int | None, at: Position, now_ms: int) -> int:
        if ts is None:
            return at.ts
        if ts > now_ms + self.limits.max_ahead_ms:
            raise InvalidRecord(
                "future-timestamp",
                f"ts is {ts}, {(ts - now_ms) / 1000:.0f} s ahead; at most {self.limits.max_ahead_ms / 1000:.0f} s are "
                "allowed, in milliseconds since the epoch, UTC",
            )
        if ts < EARLIEST_TS:
            raise InvalidRecord(
                "past-timestamp", f"ts is {ts}, before the year 1990; it must be milliseconds since the epoch, UTC"
            )
        return ts


@lru_cache
def _decoder_of(topic: str) -> msgspec.json.Decoder[Struct]:
    return msgspec.json.Decoder(TOPICS[topic].record)
