"""Records as the messages that an application sends, each ready to be sent once or again: named, timed and checked."""

from __future__ import annotations

import uuid
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ranker.contracts.decoding import InputDecoder, Limits, as_taken
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, User
from ranker.contracts.schema import BUILT_IN_ACTIONS, Action, FeatureSchema
from ranker.contracts.topics import CANDIDATES, ERASURES, INTERACTIONS, ITEMS, TOPIC_OF_ACTION, TOPICS, USERS
from ranker.mapping.topic_map import TopicMap

#: What an application sends.
SentRecord = Interaction | CandidateList | Item | User | Erasure
#: The topics that it goes to.
INPUT_TOPICS = tuple(name for name, topic in TOPICS.items() if topic.direction == "in")
_TOPIC_OF: dict[type, str] = {CandidateList: CANDIDATES, Item: ITEMS, User: USERS, Erasure: ERASURES}


class Message(NamedTuple):
    """What goes onto a topic."""

    topic: str
    key: bytes | None
    value: bytes | None


class Accepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the broker has a record, and the name that an event has got: `applied` of a ranking compares with it."""

    topic: str  # as the broker calls it
    partition: int
    offset: int
    event_id: str | None = None


def message_of(record: SentRecord) -> Message:
    """A record as the message an application would send."""
    key = record.item_id if isinstance(record, Item) else record.user_id
    return Message(topic_of(record), key.encode(), msgspec.json.encode(record))


def topic_of(record: SentRecord) -> str:
    """The topic that a record goes to, by our name: that of its action, where the action has one."""
    if isinstance(record, Interaction):
        return TOPIC_OF_ACTION.get(record.action or "", INTERACTIONS)
    return _TOPIC_OF[type(record)]


def encoded(record: SentRecord) -> bytes:
    """A record's JSON.

    Raises:
        InvalidRecord: it holds what JSON has no form for.
    """
    try:
        return msgspec.json.encode(record)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        topic = topic_of(record)
        raise InvalidRecord("invalid", f"no JSON: {error}; {topic} takes a JSON object in UTF-8") from error


def named(record: SentRecord, now_ms: int) -> SentRecord:
    """The record with the `event_id` and the `ts` that it is without, so that the same one may be sent again.

    An event that comes twice under one name changes nothing the second time; nor does what has its time.
    """
    changes: dict[str, Any] = {}
    if isinstance(record, Interaction) and not record.event_id:
        changes["event_id"] = uuid.uuid4().hex
    if not isinstance(record, Item) and record.ts is None:
        changes["ts"] = now_ms
    return msgspec.structs.replace(record, **changes) if changes else record


class Ready(NamedTuple):
    """A message that a worker takes, and what a ranking's wait for it needs."""

    message: Message
    record: SentRecord | None  # None: a tombstone


class Outgoing:
    """Makes messages of records, and refuses what a worker would, in the same words: it decodes as a worker does."""

    def __init__(self, schema: FeatureSchema | None, limits: Limits, topics: TopicMap) -> None:
        """
        Args:
            schema: which actions there are; where None, that is left to the worker.
            limits: what an input may be at most.
            topics: what they are called, and to which others send.
        """
        self._limits, self._topics = limits, topics
        self._decoder = None if schema is None else InputDecoder(schema, limits)

    def of(self, record: SentRecord, now_ms: int) -> Ready:
        """A record of ours as a message.

        Raises:
            InvalidRecord: a worker would not take it: what is wrong, and what would be right.
            LiverankError: its topic is one to which others send in a form of their own.
        """
        return self.taken(topic_of(record), encoded(record), now_ms)

    def taken(self, topic: str, value: bytes, now_ms: int) -> Ready:
        """JSON that somebody has written as a message. What it holds besides is kept: the worker sees what was sent.

        Args:
            topic: ours; an event goes where its action says.
            value: the record.
            now_ms: the present, in milliseconds.

        Raises:
            InvalidRecord: as `of`.
            LiverankError: as `of`.
        """
        if len(value) > self._limits.max_message_bytes:
            raise InvalidRecord(
                "too-large", f"the message has {len(value)} bytes; at most {self._limits.max_message_bytes} are allowed"
            )
        topic = self._unmapped(_of_action(value) if topic == INTERACTIONS else topic)
        record: Any = as_taken(topic, value)
        whole = named(record, now_ms)
        if whole is not record:
            value = _with_names(value, whole)
        key: str = getattr(whole, TOPICS[topic].key)
        message = Message(topic, key.encode(), value)
        self._decoder_for(whole)(Position(topic, 0, 0, now_ms), message.key, value, now_ms)
        return Ready(message, whole)

    def withdrawn(self, item_id: str) -> Ready:
        """The tombstone of an item.

        Raises:
            InvalidRecord: no item can have this id, in the words in which its description would be refused.
            LiverankError: as `of`.
        """
        refuse_mapped(ITEMS, self._topics)
        as_taken(ITEMS, encoded(Item(item_id=item_id)))
        return Ready(Message(ITEMS, item_id.encode(), None), None)

    def _unmapped(self, topic: str) -> str:
        """The topic, or the one for any action where others send to the action's own."""
        if topic in self._topics.fields and TOPICS[topic].action and INTERACTIONS not in self._topics.fields:
            return INTERACTIONS
        refuse_mapped(topic, self._topics)
        return topic

    def _decoder_for(self, record: SentRecord) -> InputDecoder:
        if self._decoder is not None:
            return self._decoder
        return _of_any_action(record.action if isinstance(record, Interaction) else None, self._limits)


class _Acted(Struct):
    action: Any = None


def _of_action(value: bytes) -> str:
    """The topic of an event that is not decoded yet: what is wrong with it is said as of that topic."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        action = msgspec.json.decode(value, type=_Acted).action
        return TOPIC_OF_ACTION.get(action, INTERACTIONS) if isinstance(action, str) else INTERACTIONS
    return INTERACTIONS


@lru_cache(64)
def _of_any_action(action: str | None, limits: Limits) -> InputDecoder:
    """A decoder for a schema that is not known: whatever the action is, it may be declared."""
    own = () if action is None or action in BUILT_IN_ACTIONS else (Action(name=action),)
    return InputDecoder(FeatureSchema(actions=(*FeatureSchema().actions, *own)), limits)


def _with_names(value: bytes, record: Struct) -> bytes:
    """The same bytes with the record's name and time at their end, where they win over a null before them."""
    names = {name: getattr(record, name, None) for name in ("event_id", "ts")}
    added = msgspec.json.encode({name: found for name, found in names.items() if found is not None})
    return value.rstrip().removesuffix(b"}") + b"," + added.removeprefix(b"{")


def refuse_mapped(topic: str, topics: TopicMap) -> None:
    """Nothing, where records of our own form may be sent to a topic.

    Raises:
        LiverankError: others send there, in a form of their own.
    """
    if topic in topics.fields:
        raise LiverankError(
            f"records of liverank's own form do not go onto {topics.called(topic)}: [topics.{topic}.fields] says that "
            "others send there; send over topics that are not mapped so"
        )
