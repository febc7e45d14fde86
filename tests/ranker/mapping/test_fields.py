"""Messages of running topics as records of ours: the decoder takes what comes of them, or says what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from ranker.contracts.schema import Action, FeatureSchema
from ranker.mapping.topic_map import topic_map

NOW = 1_763_700_000_000
#: Every kind of source, for every kind of record.
SOURCES = {
    "interactions": {
        "user_id": "uid", "item_id": "a.b", "action": {"column": "type", "map": {"x": "cart"}}, "position": "n",
        "ts": {"column": "at", "time": "us"}, "value": "v", "context": {"device": "d"}, "text": {"value": "t"},
    },
    "candidates": {"items": {"column": "l", "separator": "|"}, "item_id": "i", "score": "s", "features": ["p"]},
    "items": {"tags": {"column": "l", "separator": ","}, "numeric": {"p": "v"}, "published_at": "at", "title": "n"},
    "users": {"attributes": "d"},
    "erasures": {"ts": "at"},
}  # fmt: skip
_NAMES = st.sampled_from(["user_id", "item_id", "uid", "a", "b", "type", "at", "v", "d", "l", "i", "s", "p", "n"])
_PLAIN = st.sampled_from([
    None, True, False, 0, -1, 7, 2**63, 10**30, 1e300, -0.5, "", "u1", "1e400", "1e300", "2024-01-01T00:00:00Z",
    "1763700000", "a|b", "\x00", "\ud7ff", [], {}, [1, "a", None, {"i": 3}, {"p": "x"}], {"b": 1}, {"b": {"d": []}},
])  # fmt: skip
SCHEMA = FeatureSchema(actions=(Action(name="view"), Action(name="click", positive=True), Action(name="cart")))


def decoded(topic: str, fields: dict[str, Any], body: Any, key: str = "u1") -> Any:
    """A message of a mapped topic as the decoder gives it."""
    topics = topic_map({topic: {"name": "theirs", "fields": fields}}, "x")
    decode = InputDecoder(SCHEMA, translated=topics.translated)
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(Position(topic, 2, 41, NOW, "theirs"), key.encode(), value, NOW)


def test_an_event_by_other_names() -> None:
    """Names, a nested one, values, a unit of time; ids that are numbers are text; what is not mapped keeps its name."""
    fields = {
        "user_id": "uid", "item_id": "product.sku", "action": {"column": "type", "map": {"addtocart": "cart"}},
        "ts": {"column": "at", "time": "s"}, "value": "amount", "context": {"device": "ua"},
    }  # fmt: skip
    body = {
        "uid": 7, "product": {"sku": 4711}, "type": "addtocart", "at": NOW // 1000 - 5, "amount": "12.50",
        "ua": "phone", "event_id": "e1", "position": 3, "session": {"deep": [1, 2]},
    }  # fmt: skip
    assert decoded("interactions", fields, body, key="7") == Interaction(
        user_id="7", item_id="4711", action="cart", ts=NOW - 5000, value=12.5, context={"device": "phone"},
        event_id="e1", position=3,
    )  # fmt: skip


def test_a_fixed_value_and_iso_times() -> None:
    """A topic of one action needs no field for it; ISO 8601 is read whatever the unit."""
    fields = {"item_id": "sku", "action": {"value": "cart"}}
    body = {"user_id": "u1", "sku": "a", "ts": "2025-11-21T04:40:00Z"}
    found = decoded("interactions", fields, body)
    assert (found.action, found.ts, found.event_id) == ("cart", NOW, "theirs-2-41")


def test_a_list_of_objects_of_other_names_and_of_ids() -> None:
    """What is said of items holds for each of them; a bad feature costs itself alone."""
    fields = {
        "request_id": "search", "items": "hits", "item_id": "sku", "score": "relevance", "features": {"price": "eur"},
        "context": "page",
    }  # fmt: skip
    hits = [{"sku": 1, "relevance": 0.5, "eur": "9.99"}, {"sku": "b", "eur": "gratis", "features": {"stars": 4}}]
    body = {"user_id": "u1", "search": "s1", "hits": hits, "page": {"device": "phone"}}
    found = decoded("candidates", fields, body)
    assert isinstance(found, CandidateList)
    assert (found.request_id, found.context) == ("s1", {"device": "phone"})
    assert found.items[0] == Candidate(item_id="1", score=0.5, features={"price": 9.99})
    assert (found.items[1].item_id, found.items[1].features) == ("b", {"stars": 4})
    ids = {"user_id": "u1", "search": "s1", "hits": ["a", 2]}
    assert [item.item_id for item in decoded("candidates", fields, ids).items] == ["a", "2"]
    joined = {"user_id": "u1", "search": "s1", "hits": "a|b"}
    by_mark = {**fields, "items": {"column": "hits", "separator": "|"}}
    assert [item.item_id for item in decoded("candidates", by_mark, joined).items] == ["a", "b"]


def test_items_and_users() -> None:
    """Their numbers and attributes by name, tombstones as they are."""
    tags = {"column": "labels", "separator": ","}
    fields = {"item_id": "sku", "title": "name", "numeric": {"price": "eur"}, "tags": tags}
    body = {"sku": 5, "name": "Bicycle", "eur": 590, "labels": "city,steel", "published_at": "2024-01-01T00:00:00Z"}
    found = decoded("items", fields, body, key="5")
    assert found == Item(
        item_id="5", title="Bicycle", numeric={"price": 590}, tags=["city", "steel"], published_at=1_704_067_200_000
    )
    attributes = {"user_id": "id", "attributes": ["tier"]}
    assert decoded("users", attributes, {"id": "u1", "tier": "gold"}) == User(
        user_id="u1", attributes={"tier": "gold"}, ts=NOW
    )


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        ({"user_id": "u1"}, "invalid", "there is no item_id.*requires user_id, item_id or a text"),
        ({"user_id": "u2", "sku": "a"}, "key-mismatch", "the key is 'u1' but user_id is 'u2'"),
        ({"user_id": "u1", "sku": {"id": 1}}, "invalid", "Expected `str | null`, got `object`"),
        ({"user_id": "u1", "sku": "a", "ts": "yesterday"}, "invalid", r"ts is 'yesterday'.*\[topics.clicks.fields\]"),
        ({"user_id": "u1", "sku": "a", "value": "dear"}, "invalid", "value is 'dear'; it must be a number"),
        ({"user_id": "u1", "sku": "a", "ts": 1_763_700_000}, "past-timestamp", "before the year 1990"),
        (b"{no json", "not-json", "not JSON"),
        (b"[1]", "invalid", "Expected `object`, got `array`"),
        (b'{"user_id": "u1", "sku": "a", "value": 1' + b"0" * 400 + b"}", "invalid", "out of range"),
        (b'{"user_id": "u1", "sku": ' + b"[" * 2000 + b"]" * 2000 + b"}", "invalid", "nested too deep"),
        (b"\xff", "not-json", "not JSON"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_dead_letter_that_says_why(body: Any, reason: str, says: str) -> None:
    """With the reasons that every input has, whatever the bytes."""
    with pytest.raises(InvalidRecord, match=says) as refused:
        decoded("clicks", {"item_id": "sku"}, body)
    assert refused.value.reason == reason


@given(st.sampled_from(sorted(SOURCES)), st.dictionaries(_NAMES, _PLAIN, max_size=10) | st.binary(max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_comes_is_a_record_or_a_dead_letter(topic: str, body: Any) -> None:
    """No message of anybody's makes the map itself fail."""
    given_key = None if isinstance(body, bytes) else body.get("uid") or body.get("user_id") or body.get("item_id")
    try:
        decoded(topic, SOURCES[topic], body, key=str(given_key or "u1"))
    except InvalidRecord as why:
        assert why.error
