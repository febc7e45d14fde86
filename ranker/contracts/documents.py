"""The contracts as documents: a JSON Schema for every record, and one AsyncAPI document over all topics."""

from __future__ import annotations

from typing import Any

import msgspec

from ranker.contracts.records import RECORDS

#: topic -> (the field that is its key, who sends it: "in", "out", "internal" or "control", what it is for)
TOPICS: dict[str, tuple[str, str, str]] = {
    "clicks": ("user_id", "in", "a click on an item; the action is implied"),
    "views": ("user_id", "in", "a view of an item; the action is implied"),
    "interactions": ("user_id", "in", "any declared action of a user on an item"),
    "candidates": ("user_id", "in", "a recall stage's list: replaces the user's current list and asks for a ranking"),
    "items": ("item_id", "in", "the catalogue; a message without a body withdraws the item"),
    "users": ("user_id", "in", "attributes of a user"),
    "erasures": ("user_id", "in", "forget this user"),
    "item-vectors": ("item_id", "internal", "an item's text, encoded once"),
    "rankings": ("user_id", "out", "a user's current list, re-ranked"),
    "examples": ("user_id", "internal", "what was shown, the state it was ranked from, and what happened"),
    "model-updates": ("model", "control", "a bundle to serve, to stage or to roll back to"),
    "model-deltas": ("model", "control", "changed item rows between bundles"),
    "dead-letters": ("as it came", "out", "an input that could not be used, and why"),
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """topic -> JSON Schema (2020-12) of its record."""
    return {
        topic: {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(record)}
        for topic, record in RECORDS.items()
    }


def asyncapi(version: str) -> dict[str, Any]:
    """An AsyncAPI 3.0 document of every topic, its key and its record."""
    _, components = msgspec.json.schema_components(
        tuple(set(RECORDS.values())), ref_template="#/components/schemas/{name}"
    )
    channels, operations = {}, {}
    for topic, (key, direction, purpose) in TOPICS.items():
        name = RECORDS[topic].__name__
        message = {
            "name": name,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "bindings": {"kafka": {"key": {"type": "string", "description": key}}},
        }
        channels[topic] = {"address": topic, "description": purpose, "messages": {name: message}}
        if direction in ("in", "out"):
            operations[f"{'receive' if direction == 'in' else 'send'}-{topic}"] = {
                "action": "receive" if direction == "in" else "send",
                "channel": {"$ref": f"#/channels/{topic}"},
            }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "liverank", "version": version, "description": "Topics that liverank reads and writes."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": components},
    }
