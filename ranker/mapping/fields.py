"""A message of a topic that already runs as a record of ours: its fields by our names, its values as they are meant."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import MAX_INTEGER, Candidate
from ranker.contracts.topics import CANDIDATES, TOPICS
from ranker.mapping.sources import Source
from ranker.mapping.values import BadCell, milliseconds, number_of, text_of

#: Fields that hold several of theirs, each under its own name: `features.price`.
FIELD_GROUPS = ("context", "attributes", "numeric", "features")
#: Fields that are times, which theirs may tell in another unit or as ISO 8601.
TIMES = ("ts", "published_at", "expires_at")
_TEXTS = ("user_id", "item_id", "action", "event_id", "request_id", "title", "text", "category")
_NUMBERS = ("value", "position", "score", "k", "reasons")
_OF_CANDIDATES = ("item_id", "score", "features")  # of each item of a list


def fields_of(topic: str) -> tuple[str, ...]:
    """The fields of a topic's records that may be mapped, those of a list's items among them."""
    fields = tuple(field.name for field in msgspec.structs.fields(TOPICS[topic].record))
    return (*fields, *_OF_CANDIDATES) if topic == CANDIDATES else fields


class FieldMap:
    """Takes the bytes of a message, and gives those of the record that it stands for.

    A field that is not mapped keeps its name. What is no JSON object passes: the decoder says what is wrong with it.
    """

    def __init__(self, topic: str, sources: Mapping[str, Source]) -> None:
        """
        Args:
            topic: ours.
            sources: field, or `features.price`, -> where it comes from.
        """
        listed = _OF_CANDIDATES if topic == CANDIDATES else ()
        own = tuple(field.name for field in msgspec.structs.fields(TOPICS[topic].record))
        self._topic = topic
        self._own = _with_defaults(own, {key: source for key, source in sources.items() if _head(key) not in listed})
        self._listed = _with_defaults(
            Candidate.__struct_fields__, {key: source for key, source in sources.items() if _head(key) in listed}
        )

    def __call__(self, value: bytes) -> bytes:
        """The record's bytes.

        Raises:
            InvalidRecord: a value that is not what its field wants.
        """
        try:
            given = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return value
        if not isinstance(given, dict):
            return value
        try:
            record = _mapped(given, self._own)
            if self._topic == CANDIDATES and isinstance(record.get("items"), list):
                record["items"] = [self._candidate(part) for part in record["items"]]
            return msgspec.json.encode(record)
        except BadCell as wrong:
            raise InvalidRecord(
                "invalid", f"{wrong}; [topics.{self._topic}.fields] says where {wrong.field} comes from"
            ) from wrong
        except (OverflowError, RecursionError) as wrong:
            raise InvalidRecord("invalid", f"a number is too large, or nested too deeply: {wrong}") from wrong

    def _candidate(self, part: Any) -> Any:
        """An item of a list: an object, or its id alone."""
        return _mapped(part, self._listed) if isinstance(part, dict) else {"item_id": _text(part)}


def _head(key: str) -> str:
    return key.partition(".")[0]


def _with_defaults(fields: tuple[str, ...], sources: Mapping[str, Source]) -> dict[str, Source]:
    """Where each field comes from: as it is said, else from the field of its own name. Whole groups come first."""
    known = {field: sources.get(field, Source(column=field)) for field in fields}
    return known | {key: source for key, source in sources.items() if key not in known}


def _mapped(given: dict[str, Any], sources: Mapping[str, Source]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, source in sources.items():
        value = _value(given, key, source)
        if value is None:
            continue
        group, _, name = key.partition(".")
        if not name:
            found[key] = value
        else:
            whole = found.get(group)
            found[group] = {**whole, name: value} if isinstance(whole, dict) else {name: value}
    return found


def _value(given: dict[str, Any], key: str, source: Source) -> Any:
    """One value as its field wants it; None where there is none."""
    raw = source.value if source.value is not None else _at(given, source.column or key)
    if raw is None or raw == "":
        return None
    if source.map:
        raw = source.map.get(text_of(raw), raw)
    if key in TIMES:
        return milliseconds(raw, source.time or "ms", "UTC", key)
    if key in _TEXTS:
        return _text(raw)
    return _parsed(raw, key, source.separator) if isinstance(raw, str) else raw


def _parsed(text: str, key: str, separator: str | None) -> Any:
    """What a text stands for: a list with a separator, or the number that its field wants."""
    if separator is not None:
        return text.split(separator)
    if key in _NUMBERS:
        return _number(text, key)
    with suppress(BadCell):  # a bad feature costs itself alone: the decoder says what is made of it
        if _head(key) in ("numeric", "features"):
            return _number(text, key)
    return text


def _at(given: dict[str, Any], path: str) -> Any:
    """The field of that name, else the one inside others: `product.sku`."""
    if path in given:
        return given[path]
    found: Any = given
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _text(value: Any) -> Any:
    """An id that is a number as text. Objects and lists stay: they are none."""
    return value if isinstance(value, dict | list) else text_of(value)


def _number(value: str, key: str) -> float | int | None:
    number = number_of(value, key, ".")
    return int(number) if number is not None and number.is_integer() and abs(number) <= MAX_INTEGER else number
