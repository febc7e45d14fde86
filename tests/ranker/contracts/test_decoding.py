"""Bad input is refused with what was wrong and what would be right."""

from __future__ import annotations

import pytest

from ranker.contracts.decoding import InputDecoder, Limits
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Interaction, User
from ranker.contracts.schema import FeatureSchema

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
    """No body withdraws an item and clears a user's attributes."""
    assert decode("items", None, b"a") is None
    assert decode("users", None) == User(user_id="u")


def test_a_list_keeps_its_features() -> None:
    """A candidate's numbers arrive as sent, a null among them."""
    value = b'{"user_id":"u","request_id":"r","items":[{"item_id":"a","features":{"price":null,"stars":4}}]}'
    listed = decode("candidates", value)
    assert isinstance(listed, CandidateList)
    assert listed.items[0].features == {"price": None, "stars": 4.0}
