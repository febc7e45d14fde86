"""`[topics]`: what ours are called on the broker, and how the records of topics that already run become ours.

The one place where a name is resolved. Everything inside goes by our names (`ranker.contracts.topics`): whoever
subscribes or sends asks `called`, and whoever takes a record in asks `own`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from msgspec import Struct

from ranker.contracts.errors import MappingError
from ranker.contracts.topics import TOPICS
from ranker.mapping.fields import FIELD_GROUPS, TIMES, FieldMap, fields_of
from ranker.mapping.sources import Source, nearest, refuse_unknown, sources_in

_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_LONGEST = 249  # letters of a topic's name
_LONGEST_PREFIX = 200
_DIRECTIONS = {"out": "writes", "internal": "keeps for itself", "control": "is steered by"}


class TopicMap(Struct, frozen=True, kw_only=True, dict=True):
    """What topics are called on the broker. A name that is given is whole; every other one begins with the prefix."""

    prefix: str = ""
    names: dict[str, str] = {}  # ours -> the broker's
    fields: dict[str, dict[str, Source]] = {}  # ours -> field, or `features.price` -> where it comes from

    def called(self, topic: str) -> str:
        """What a topic of ours is called on the broker; what is none of ours, as a changelog, is called so already."""
        return self._called.get(topic, topic)

    def own(self, called: str) -> str:
        """What the broker's topic is here."""
        return self._own.get(called, called)

    def translated(self, topic: str, value: bytes) -> bytes:
        """The bytes of a message of one of our topics as those of our record.

        Raises:
            InvalidRecord: a value is not what its field wants.
        """
        fields = self._field_maps.get(topic)
        return value if fields is None else fields(value)

    @cached_property
    def _called(self) -> dict[str, str]:
        return {topic: self.names.get(topic, self.prefix + topic) for topic in TOPICS}

    @cached_property
    def _own(self) -> dict[str, str]:
        return {called: topic for topic, called in self._called.items()}

    @cached_property
    def _field_maps(self) -> dict[str, FieldMap]:
        return {topic: FieldMap(topic, sources) for topic, sources in self.fields.items()}


def topic_map(table: Mapping[str, Any], where: str) -> TopicMap:
    """`[topics]` of a file, or of the environment.

    Args:
        table: `prefix`, and by our names a name, or a table with `name` and `fields`.
        where: the file's name, for errors.

    Raises:
        MappingError: what cannot be, in a sentence.
    """
    refuse_unknown(table, ("prefix", *TOPICS), "topics", where)
    prefix = table.get("prefix", "")
    if not isinstance(prefix, str) or (prefix and not _NAME.fullmatch(prefix)) or len(prefix) > _LONGEST_PREFIX:
        raise MappingError(
            f"{where}: prefix of [topics] is {prefix!r}; it may have up to {_LONGEST_PREFIX} letters, digits, '.', '_' "
            "and '-', as \"shop-a.\""
        )
    names, fields = {}, {}
    for topic, given in table.items():
        if topic != "prefix":
            name, sources = _topic(topic, given, where)
            if name is not None:
                names[topic] = name
            if sources:
                fields[topic] = sources
    found = TopicMap(prefix=prefix, names=names, fields=fields)
    _refuse_shared(found, where)
    return found


def _topic(topic: str, given: Any, where: str) -> tuple[str | None, dict[str, Source]]:
    """A topic's name on the broker, where one is given, and the sources of its fields."""
    if isinstance(given, list):
        raise MappingError(
            f"{where}: {topic} of [topics] names several topics; give one: positions are kept by our names, so each of "
            "ours is one topic. A second topic of events may be interactions, with "
            f'fields.action = {{ value = "{TOPICS[topic].action or "click"}" }}'
        )
    table = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, dict):
        raise MappingError(f"{where}: {topic} of [topics] is {given!r}; give the topic's name, or [topics.{topic}]")
    refuse_unknown(table, ("name", "fields"), f"topics.{topic}", where)
    name = table.get("name")
    if name is not None and (not isinstance(name, str) or not is_topic_name(name)):
        raise MappingError(
            f"{where}: {topic} of [topics] is called {name!r}; a topic's name has 1 to {_LONGEST} letters, digits, "
            "'.', '_' and '-', and is not '.' or '..'"
        )
    if isinstance(name, str) and name.startswith("__"):
        raise MappingError(f"{where}: {topic} of [topics] is called {name!r}; what begins with __ is Kafka's own")
    return name, _fields(topic, table.get("fields", {}), where)


def _fields(topic: str, table: Any, where: str) -> dict[str, Source]:
    key = f"topics.{topic}.fields"
    if not isinstance(table, dict):
        raise MappingError(f"{where}: fields of [topics.{topic}] is {table!r}; it must be a table, [{key}]")
    direction = TOPICS[topic].direction
    if table and direction != "in":
        inputs = ", ".join(name for name, one in TOPICS.items() if one.direction == "in")
        raise MappingError(
            f"{where}: [{key}] maps fields of a topic that liverank {_DIRECTIONS[direction]}; those of {inputs} map"
        )
    refuse_unknown(table, fields_of(topic), key, where)
    sources = sources_in(table, FIELD_GROUPS, key, where, whole=True)
    for field, source in sources.items():
        if source.time is not None and field not in TIMES:
            raise MappingError(f"{where}: {field} of [{key}] is no time; {nearest(field, TIMES)}")
    return sources


def is_topic_name(name: str) -> bool:
    """Whether Kafka takes it for a topic."""
    return len(name) <= _LONGEST and name not in (".", "..") and _NAME.fullmatch(name) is not None


def _refuse_shared(found: TopicMap, where: str) -> None:
    """Two of ours on one topic: neither could tell its records from the other's."""
    taken: dict[str, str] = {}
    for topic in TOPICS:
        other = taken.setdefault(found.called(topic), topic)
        if other == topic:
            continue
        mapped, theirs = (topic, other) if topic in found.names else (other, topic)
        called, direction = found.called(topic), TOPICS[theirs].direction
        if direction != "in" and theirs not in found.names:
            raise MappingError(
                f"{where}: {mapped} of [topics] is called {called!r}, which is the topic {theirs} that liverank "
                f"{_DIRECTIONS[direction]}; give the name of another topic"
            )
        raise MappingError(
            f"{where}: {other} and {topic} of [topics] are both called {called!r}; each of ours is a topic of its own. "
            "One topic with several actions is interactions, with its action among [topics.interactions.fields]"
        )
