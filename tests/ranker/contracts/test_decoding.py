"""Bad input is refused with what was wrong and what would be right."""

from __future__ import annotations

import re

import msgspec
import pytest

from ranker.contracts.decoding import InputDecoder, Limits, decode_vector
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Interaction, Item, ItemVector, User
from ranker.contracts.schema import CandidateFeature, FeatureSchema

NOW = 1_700_000_000_000
DECODE = InputDecoder(FeatureSchema(), Limits(max_candidates=3, max_message_bytes=2000))


def decode(topic: str, value: bytes | None, key: bytes | None = b"u") -> object:
    return DECODE(Position(topic, 2, 7, NOW - 5), key, value, NOW)


@pytest.mark.parametrize(
    ("topic", "key", "value", "reason", "says"),
    [
        ("clicks", b"u", b"{", "not-json", "JSON"),
        ("clicks", b"u", b"\xff\xfe", "not-json", "JSON"),
        ("clicks", b"u", b"[]", "invalid", "Expected `object`"),
        ("clicks", b"u", b'{"user_id":"u"}', "invalid", "requires user_id, item_id"),
        ("clicks", b"u", b'{"user_id":"u","item_id":5}', "invalid", "item_id"),
        ("clicks", b"u", b'{"user_id":"u","item_id":""}', "invalid", "item_id"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","ts":"now"}', "invalid", "ts"),
        ("clicks", None, b'{"user_id":"u","item_id":"a"}', "missing-key", "user_id"),
        ("clicks", b"\xff", b'{"user_id":"u","item_id":"a"}', "bad-key", "UTF-8"),
        ("clicks", b"v", b'{"user_id":"u","item_id":"a"}', "key-mismatch", "'u'"),
        ("clicks", b"u", None, "null-value", "no body"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","action":"view"}', "unknown-action", "implies 'click'"),
        ("interactions", b"u", b'{"user_id":"u","item_id":"a","action":"fly"}', "unknown-action", "view, click"),
        ("interactions", b"u", b'{"user_id":"u","item_id":"a"}', "unknown-action", "no action"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","ts":1700001000000}', "future-timestamp", "1000 s ahead"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","ts":1700000000}', "past-timestamp", "milliseconds"),
        ("candidates", b"u", b'{"user_id":"u","request_id":"r","items":[]}', "empty-list", "1 to 3"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","value":1e39}', "invalid", "<= 3.4028235e+38 - at `$.value`"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","value":1e999}', "invalid", "±3.4028235e+38"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","value":NaN}', "not-json", "JSON"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","ts":' + b"9" * 30 + b"}", "invalid", "$.ts"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"a","x":' + b"[" * 1500, "invalid", "nested"),
        ("candidates", b"u", b'{"user_id":"u","request_id":"r","k":' + b"9" * 31 + b',"items":[]}', "invalid", "$.k"),
        ("items", b"a", b'{"item_id":"a","numeric":{"price":1e39}}', "invalid", "$.numeric"),
        ("items", b"a", b'{"item_id":"a","published_at":' + b"9" * 22 + b"}", "invalid", "$.published_at"),
        ("items", b"a", b'{"item_id":"a","published_at":1700000000}', "past-timestamp", "must be milliseconds"),
        ("items", b"a", b'{"item_id":"a","published_at":1700000000000000}', "future-timestamp", "in milliseconds"),
        ("items", b"\xff", None, "bad-key", "UTF-8"),
        ("clicks", b"u", b'{"user_id":"u","item_id":"' + b"a" * 3000 + b'"}', "too-large", "at most 2000"),
    ],
)
def test_a_bad_message_is_refused_by_name(
    topic: str, key: bytes | None, value: bytes | None, reason: str, says: str
) -> None:
    """Each kind of bad message has its own reason, and a text that says what would be right."""
    with pytest.raises(InvalidRecord) as refused:
        decode(topic, value, key)
    assert refused.value.reason == reason
    assert says in refused.value.error


def test_a_list_over_the_limit_is_refused() -> None:
    """One item too many names the count and the limit."""
    items = ",".join(f'{{"item_id":"{number}"}}' for number in range(4))
    with pytest.raises(InvalidRecord, match="4 items; it must have 1 to 3"):
        decode("candidates", f'{{"user_id":"u","request_id":"r","items":[{items}]}}'.encode())


def test_what_a_record_leaves_out_comes_from_the_message() -> None:
    """Time and id default to the message's own, which stay the same when it is delivered again."""
    assert decode("clicks", b'{"user_id":"u","item_id":"a"}') == Interaction(
        user_id="u", item_id="a", action="click", ts=NOW - 5, event_id="clicks-2-7"
    )


def test_unknown_fields_and_other_scripts_are_fine() -> None:
    """A producer may know more fields than we do, and speak any language."""
    value = '{"user_id":"ユーザー","item_id":"товар","mood":"😀"}'.encode()
    event = decode("views", value, "ユーザー".encode())
    assert isinstance(event, Interaction)
    assert (event.item_id, event.action) == ("товар", "view")


def test_tombstones() -> None:
    """No body withdraws an item and clears a user's attributes, as of the message's time."""
    assert decode("items", None, b"a") is None
    assert decode("users", None) == User(user_id="u", ts=NOW - 5)


def test_a_list_keeps_its_features() -> None:
    """A candidate's numbers arrive as sent, a null among them."""
    value = b'{"user_id":"u","request_id":"r","items":[{"item_id":"a","features":{"price":null,"stars":4}}]}'
    listed = decode("candidates", value)
    assert isinstance(listed, CandidateList)
    assert listed.items[0].features == {"price": None, "stars": 4.0}


@pytest.mark.parametrize("topic", ["clicks", "candidates", "erasures"])
@pytest.mark.parametrize(
    ("stamp", "reason"),
    [(NOW // 1000, "past-timestamp"), (NOW * 1000, "future-timestamp"), (NOW + 1_800_000, "future-timestamp")],
)
def test_the_messages_own_timestamp_has_the_same_limits(topic: str, stamp: int, reason: str) -> None:
    """Without a time in the body, a message stamped in seconds, in microseconds or next week is refused as well."""
    bodies = {"clicks": b'"item_id":"a"', "candidates": b'"request_id":"r","items":[{"item_id":"a"}]'}
    value = b'{"user_id":"u"' + (b"," + bodies[topic] if topic in bodies else b"") + b"}"
    with pytest.raises(InvalidRecord, match="message's timestamp") as refused:
        DECODE(Position(topic, 0, 1, stamp), b"u", value, NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize("published", [-1_514_764_800_000, 100, 631_151_999_999, NOW])
def test_an_item_may_be_older_than_the_epoch(published: int) -> None:
    """A film of 1922 is one."""
    item = decode("items", f'{{"item_id":"a","published_at":{published}}}'.encode(), b"a")
    assert isinstance(item, Item)
    assert item.published_at == published


@pytest.mark.parametrize(
    ("topic", "loose", "strict"),
    [
        ("clicks", '"event_id":"","request_id":"","position":-1,"action":"","context":""', ""),
        ("clicks", '"ts":0,"value":"","text":null', ""),
        ("clicks", '"ts":"1699999999000"', '"ts":1699999999000'),
        ("clicks", '"ts":1699999999000.0,"position":2.0', '"ts":1699999999000,"position":2'),
        ("clicks", '"value":"59.90"', '"value":59.9'),
        ("clicks", '"value":true', '"value":1'),
        ("clicks", '"context":[]', '"context":{}'),
        ("clicks", '"context":{"device":{"os":"x"},"n":1}', '"context":{"n":1}'),
        ("candidates", '"k":0', ""),
        ("candidates", '"k":"5","ts":-1', '"k":5'),
        ("items", '"numeric":{"price":"59.9","stars":"","new":true}', '"numeric":{"price":59.9,"new":1}'),
        ("items", '"tags":["x",null,""],"published_at":0', '"tags":["x"]'),
        ("users", '"attributes":{"age":30,"home":["a"],"name":null}', '"attributes":{"age":30}'),
    ],
)
def test_values_are_taken_as_they_are_meant(topic: str, loose: str, strict: str) -> None:
    """As Go, Java, PHP and protobuf write what is absent, whole or empty: it is the same record."""
    own = {
        "clicks": '"user_id":"a","item_id":"a"', "items": '"item_id":"a"', "users": '"user_id":"a"',
        "candidates": '"user_id":"a","request_id":"r","items":[{"item_id":"a"}]',
    }[topic]  # fmt: skip
    written = [f"{{{','.join(filter(None, (own, fields)))}}}".encode() for fields in (loose, strict)]
    assert decode(topic, written[0], b"a") == decode(topic, written[1], b"a")


def test_a_bad_feature_costs_itself_and_is_counted() -> None:
    """One candidate's feature that is no number leaves the list and its other features; declared ones are counted."""
    counted: list[tuple[str, str]] = []
    schema = FeatureSchema(candidate_features=(CandidateFeature(name="price"), CandidateFeature(name="stars")))
    decode = InputDecoder(schema, left_out=lambda topic, name: counted.append((topic, name)))
    value = (
        b'{"user_id":"u","request_id":"r","items":[{"item_id":"a","score":"high","features":{"price":"59.9","stars":"many",'
        b'"colour":"red"}},{"item_id":"b","features":{"price":1e39,"stars":4}}]}'
    )
    listed = decode(Position("candidates", 0, 1, NOW), b"u", value, NOW)
    assert isinstance(listed, CandidateList)
    assert [(item.score, item.features) for item in listed.items] == [(None, {"price": 59.9}), (None, {"stars": 4.0})]
    assert counted == [("candidates", "score"), ("candidates", "stars"), ("candidates", "price")]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('"ts":1700000000000.5', "$.ts"),
        ('"item_id":5', "$.item_id"),
        ('"value":"many"', "$.value"),
        ('"event_id":7', "event_id"),
    ],
)
def test_what_is_not_meant_is_refused(value: str, says: str) -> None:
    """A fraction of a millisecond, a number for an id, words for a number."""
    with pytest.raises(InvalidRecord, match=re.escape(says)):
        decode("clicks", f'{{"user_id":"u","item_id":"a",{value}}}'.encode())


@pytest.mark.parametrize(
    ("vector", "says"),
    [(b"abc", "2 a number"), (b"", "2 a number"), (b"\x00\x7c", "not finite"), (bytes(8194), "2 to 8192")],
)
def test_a_vector_that_is_none_is_refused(vector: bytes, says: str) -> None:
    """Odd, empty, infinite or too long."""
    record = ItemVector(item_id="a", encoder="e", text_hash="h", vector=vector)
    with pytest.raises(InvalidRecord, match=says):
        decode_vector(msgspec.json.encode(record))
    with pytest.raises(InvalidRecord, match="at most"):
        decode_vector(b" " * (4 << 20))
