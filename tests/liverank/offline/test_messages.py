"""Files of messages: what goes where, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from liverank.client.messages import Message, message_of
from liverank.offline.messages import read_messages
from liverank.offline.replay import Awaited, Replayer
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, User
from ranker.mapping.topic_map import topic_map


def read(tmp_path: Path, text: str) -> list[Message]:
    path = tmp_path / "messages.jsonl"
    path.write_text(text, encoding="utf-8")
    return list(read_messages(path))


@pytest.mark.parametrize(
    ("line", "topic", "key"),
    [
        ('{"user_id":"u","item_id":"a"}', "clicks", b"u"),
        ('{"user_id":"u","item_id":"a","action":"view"}', "views", b"u"),
        ('{"user_id":"u","item_id":"a","action":"buy"}', "interactions", b"u"),
        ('{"user_id":"u","request_id":"r","items":[]}', "candidates", b"u"),
        ('{"user_id":"u","text":"space war","action":"search"}', "interactions", b"u"),
        ('{"user_id":"u","attributes":{"tier":"gold"}}', "users", b"u"),
        ('{"item_id":"a","title":"A"}', "items", b"a"),
        ('{"topic":"users","value":{"user_id":"u"}}', "users", b"u"),
        ('{"topic":"clicks","key":"k","value":{"user_id":"u"}}', "clicks", b"k"),
        ('{"topic":"clicks","key":null,"value":{"user_id":"u"}}', "clicks", None),
    ],
)
def test_a_line_finds_its_topic_and_key(tmp_path: Path, line: str, topic: str, key: bytes | None) -> None:
    """A bare record goes where its fields say, an envelope where it says."""
    (message,) = read(tmp_path, line)
    assert (message.topic, message.key) == (topic, key)


def test_raw_and_null_bodies_are_sent_as_they_are(tmp_path: Path) -> None:
    """What no encoder would produce can be sent, to see what a worker makes of it."""
    raw, null = read(tmp_path, '{"topic":"clicks","key":"u","raw":"{"}\n\n{"topic":"items","key":"a","value":null}')
    assert raw.value == b"{"
    assert null == Message("items", b"a", None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON object is expected"),
        ("{}", "no record; a list has items, an event user_id and"),
        ('{"user_id":"u"}', "no record; a list has items"),
        ('{"topic":"clicks"}', "neither"),
        ('{"topic":"rankings","value":{}}', "the topic is 'rankings'; valid are clicks, views"),
        ("[" * 5000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, says: str) -> None:
    """The error says which line, and what is wrong with it."""
    with pytest.raises(LiverankError, match=rf"messages.jsonl:2.*{says}"):
        read(tmp_path, f'{{"item_id":"a"}}\n{line}')


@pytest.mark.parametrize(
    ("record", "topic"),
    [
        (Interaction(user_id="u", item_id="a", action="click"), "clicks"),
        (Interaction(user_id="u", item_id="a", action="buy"), "interactions"),
        (CandidateList(user_id="u", request_id="r", items=[]), "candidates"),
        (User(user_id="u"), "users"),
        (Erasure(user_id="u"), "erasures"),
        (Item(item_id="a"), "items"),
    ],
)
def test_records_become_the_messages_of_an_application(record: Interaction, topic: str) -> None:
    """A data set's record goes onto the topic and under the key that an application would use."""
    message = message_of(record)
    assert (message.topic, message.key) == (topic, b"a" if isinstance(record, Item) else b"u")


def test_records_of_ours_do_not_go_where_others_send_theirs() -> None:
    """A topic whose fields are mapped takes others' form: what is replayed would be no record of it."""
    topics = topic_map({"clicks": {"name": "web.clicks", "fields": {"item_id": "sku"}}}, "x")
    replayer = Replayer(producer=None, awaited=Awaited(), topics=topics)
    with pytest.raises(LiverankError, match=r"do not go onto web\.clicks: \[topics\.clicks\.fields\]"):
        asyncio.run(replayer.produce(Message("clicks", b"u", b"{}")))
