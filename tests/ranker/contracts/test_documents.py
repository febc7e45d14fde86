"""The generated schemas say what the structs say."""

from __future__ import annotations

import jsonschema
import msgspec
import pytest

from ranker.contracts.documents import asyncapi, json_schemas
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
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=TOPICS[topic].record)
    except msgspec.ValidationError:
        assert not accepted
    else:
        assert accepted
