"""The generated schemas say what the structs say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from ranker.contracts.decoding import as_taken, decoded
from ranker.contracts.documents import asyncapi, json_schemas
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.topics import TOPICS


def test_every_topic_has_a_schema_and_a_channel() -> None:
    """No record is left out of the documents."""
    document = asyncapi("1")
    assert set(json_schemas()) == set(TOPICS) == set(document["channels"])
    for channel in document["channels"].values():
        (message,) = channel["messages"].values()
        name = message["payload"]["$ref"].rsplit("/", 1)[-1]
        assert name in document["components"]["schemas"]


@pytest.mark.parametrize("topic", TOPICS)
def test_schemas_are_valid_json_schema(topic: str) -> None:
    """Each is a JSON Schema of the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(json_schemas()[topic])


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("clicks", {"user_id": "u", "item_id": "a"}),
        ("clicks", {"user_id": "u"}),
        ("clicks", {"user_id": "", "item_id": "a"}),
        ("interactions", {"user_id": "u", "text": "a red bicycle"}),
        ("interactions", {"user_id": "u", "item_id": None, "text": "a red bicycle"}),
        ("interactions", {"user_id": "u", "item_id": "", "text": "a"}),
        ("interactions", {"user_id": "u", "text": " \t\n"}),
        ("interactions", {"user_id": "u", "text": "x" * 4096}),
        ("interactions", {"user_id": "u", "text": "x" * 4097}),
        ("interactions", {"user_id": "u", "item_id": "a", "text": "x" * 4097}),
        ("interactions", {"user_id": "u", "item_id": "a", "text": " "}),
        ("clicks", {"user_id": "u", "item_id": "a", "ts": 1.5}),
        ("clicks", {"user_id": "u", "item_id": "a", "position": -1}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"item_id": "a", "features": {"p": None}}]}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"features": {"p": 1}}]}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [], "k": 0}),
        ("items", {"item_id": "a", "tags": ["x"], "numeric": {"price": 1}}),
        ("items", {"item_id": "a", "tags": "x"}),
        ("clicks", {"user_id": "u", "item_id": "a", "value": 3.4028235e38}),
        ("clicks", {"user_id": "u", "item_id": "a", "value": -3.5e38}),
        ("clicks", {"user_id": "u", "item_id": "a", "value": 10**60}),
        ("clicks", {"user_id": "u", "item_id": "a", "ts": 1 << 53}),
        ("clicks", {"user_id": "u", "item_id": "a", "position": 32768}),
        ("clicks", {"user_id": "u", "item_id": "a", "context": {"n": 1e39}}),
        ("clicks", {"user_id": "u", "item_id": "a", "context": {"n": None}}),
        ("clicks", {"user_id": "u", "item_id": "a", "event_id": "", "request_id": "", "position": -1}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [], "k": 1 << 31}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"item_id": "a", "score": 1e39}]}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"item_id": "a", "features": {"p": 1e39}}]}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"item_id": "a", "features": {"p": "red"}}]}),
        ("candidates", {"user_id": "u", "request_id": "r", "items": [{"item_id": "a", "features": {"p": True}}]}),
        ("items", {"item_id": "a", "numeric": {"price": -1e39}}),
        ("items", {"item_id": "a", "published_at": 10**21}),
        ("users", {"user_id": "u", "attributes": {"age": 1e39}}),
        ("model-updates", {"model": "m", "version": "../x", "sha256": "0"}),
        ("model-updates", {"model": "m", "version": "v\n", "sha256": "0"}),
    ],
)
def test_schema_and_decoder_agree(topic: str, value: dict[str, object]) -> None:
    """A document that the schema accepts decodes, and one that it refuses does not."""
    accepted = jsonschema.Draft202012Validator(json_schemas()[topic]).is_valid(value)
    assert accepted is taken(topic, value)


def taken(topic: str, value: object) -> bool:
    """Whether the decoder takes a document as a record of the topic."""
    encoded = msgspec.json.encode(value)
    try:
        if TOPICS[topic].direction == "in":
            as_taken(topic, encoded)
        else:
            decoded(msgspec.json.Decoder(TOPICS[topic].record), encoded)
    except InvalidRecord:
        return False
    return True


#: A record of each kind, and what others may write in place of any value of it.
RECORDS: dict[str, dict[str, Any]] = {
    "interactions": {
        "user_id": "u", "item_id": "a", "action": "click", "event_id": "e", "ts": 1, "request_id": "r", "position": 3,
        "value": 2.5, "text": "t", "context": {"n": 1, "x": "y"},
    },
    "candidates": {
        "user_id": "u", "request_id": "r", "ts": 1, "k": 3, "context": {"n": True},
        "items": [{"item_id": "a", "score": 0.5, "features": {"price": 2}}],
    },
    "items": {
        "item_id": "a", "title": "t", "text": "x", "category": "c", "tags": ["g"], "numeric": {"price": 2},
        "published_at": 0,
    },
    "users": {"user_id": "u", "attributes": {"age": 30}},
    "erasures": {"user_id": "u", "ts": 1},
}  # fmt: skip
ODD = [
    None, "", "0", "20", "20.0", "-1", "1e3", "abc", "01", " 1", "NaN", 0, -1, 1, 20, 20.0, 0.5, 1e39, 1 << 60,
    True, False, [], {}, [None, "", "x"], [1], *({"n": n} for n in (None, "", "1.5", "red", {}, 1e39, True)),
]  # fmt: skip


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of each value within a document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


@pytest.mark.parametrize("topic", RECORDS)
def test_schema_and_decoder_agree_on_what_others_write(topic: str) -> None:
    """Whatever stands in place of any one value: the JSON Schema says the rule that the decoder goes by."""
    validator = jsonschema.Draft202012Validator(json_schemas()[topic])
    for path in places(RECORDS[topic]):
        for odd in ODD:
            record = copy.deepcopy(RECORDS[topic])
            within: Any = record
            for key in path[:-1]:
                within = within[key]
            within[path[-1]] = odd
            assert validator.is_valid(record) is taken(topic, record), (path, odd)
