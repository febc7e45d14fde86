"""The contracts as documents: a JSON Schema for every record, and one AsyncAPI document over all topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ranker.contracts.loose_values import widened
from ranker.contracts.records import MAX_WORDS_LENGTH, Candidate, Interaction
from ranker.contracts.topics import TOPICS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: Names of the records that others write: they are taken as `ranker.contracts.loose_values` says.
_TAKEN = {Candidate.__name__, *(topic.record.__name__ for topic in TOPICS.values() if topic.direction == "in")}


def json_schemas() -> dict[str, dict[str, Any]]:
    """topic -> JSON Schema (2020-12) of its record."""
    schemas = {}
    for name, topic in TOPICS.items():
        schema = msgspec.json.schema(topic.record)
        schemas[name] = {"$schema": _DRAFT, **schema, "$defs": _as_taken(schema["$defs"])}
    return schemas


#: What the fields of an interaction do not say each by itself: it is about an item, or it is what was typed.
_ITEM_OR_WORDS = {
    "anyOf": [
        {"required": ["item_id"], "properties": {"item_id": {"type": "string", "minLength": 1}}},
        {
            "required": ["text"],
            "properties": {"text": {"type": "string", "pattern": r"\S", "maxLength": MAX_WORDS_LENGTH}},
        },
    ]
}


def _as_taken(components: dict[str, Any]) -> dict[str, Any]:
    taken = {name: widened(schema) if name in _TAKEN else schema for name, schema in components.items()}
    if Interaction.__name__ in taken:
        taken[Interaction.__name__] |= _ITEM_OR_WORDS
    return taken


def record_schemas(records: Iterable[type[Struct]], ref_template: str) -> dict[str, dict[str, Any]]:
    """JSON Schemas of records and of what they hold, by name; those that others write as they are taken.

    Args:
        records: of topics.
        ref_template: how one names another, with `{name}`.
    """
    return _as_taken(msgspec.json.schema_components(tuple(records), ref_template=ref_template)[1])


def asyncapi(
    version: str, called: Callable[[str], str] = str, mapped: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """An AsyncAPI 3.0 document of every topic, its key and its record.

    Args:
        version: of this release.
        called: our topic -> its name on the broker.
        mapped: our topic -> field -> where it comes from in the messages that others send.
    """
    components = record_schemas({topic.record for topic in TOPICS.values()}, "#/components/schemas/{name}")
    channels, operations = {}, {}
    for topic in TOPICS.values():
        name, direction = topic.record.__name__, topic.direction
        message = {
            "name": name,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}}},
        }
        if sources := (mapped or {}).get(topic.name):
            # What others send is not the payload itself: these fields of it are made of theirs.
            message["x-liverank-fields"] = dict(sources)
        address = called(topic.name)
        channels[topic.name] = {"address": address, "description": topic.purpose, "messages": {name: message}}
        if direction in ("in", "out"):
            operations[f"{'receive' if direction == 'in' else 'send'}-{topic.name}"] = {
                "action": "receive" if direction == "in" else "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
            }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "liverank", "version": version, "description": "Topics that liverank reads and writes."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": components},
    }
