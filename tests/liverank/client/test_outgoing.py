"""Records as messages that are ready: named once, checked as a worker checks, and kept as they were written."""

from __future__ import annotations

import pytest

from liverank.client.messages import Outgoing, named
from ranker.contracts.decoding import Limits, as_taken
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import CandidateList, Interaction, Item
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.sources import Source
from ranker.mapping.topic_map import TopicMap

NOW = 1_763_700_000_000


def outgoing(schema: FeatureSchema | None = None, **topics: object) -> Outgoing:
    """What makes messages of records."""
    return Outgoing(schema, Limits(), TopicMap(**topics))


def test_what_is_written_is_kept_and_names_are_added() -> None:
    """Fields that nobody knows and values that are none are the worker's to see; null and 0 are no name and time."""
    given = b'{"user_id":"u","item_id":"i","action":"click","event_id":null,"ts":0,"later":[%d],"position":"3"} '
    given %= 10**30
    message, record = outgoing().taken("interactions", given, NOW)
    assert message.value.startswith(given.strip()[:-1])
    sent = as_taken("clicks", message.value)
    assert sent == record and (record.ts, record.position) == (NOW, 3) and record.event_id
    assert (message.topic, message.key) == ("clicks", b"u")
    again, _ = outgoing().taken("interactions", message.value, NOW + 5)
    assert again.value == message.value, "what has its names is sent as it is"


def test_a_name_that_is_given_stays() -> None:
    """So that whoever sends again sends the same."""
    once = named(Interaction(user_id="u", item_id="i", action="click"), NOW)
    assert named(once, NOW + 9) is once
    assert named(Item(item_id="i"), NOW) == Item(item_id="i")


def test_actions_are_the_schemas_where_it_is_known() -> None:
    """Else any action may be declared; none at all is always wrong."""
    event = Interaction(user_id="u", item_id="i", action="fly")
    assert outgoing().of(event, NOW).message.topic == "interactions"
    with pytest.raises(InvalidRecord, match="the action 'fly' is given; valid are view, click"):
        outgoing(FeatureSchema()).of(event, NOW)
    with pytest.raises(InvalidRecord, match="no action is given"):
        outgoing().of(Interaction(user_id="u", item_id="i"), NOW)


def test_a_text_alone_is_an_event() -> None:
    """What somebody typed goes onto interactions, named as any event; and is refused in a worker's words."""
    message, record = outgoing(FeatureSchema()).of(Interaction(user_id="u", action="search", text="space war"), NOW)
    assert (message.topic, message.key) == ("interactions", b"u")
    assert isinstance(record, Interaction)
    assert record.event_id
    assert (record.ts, record.item_id) == (NOW, None)
    with pytest.raises(InvalidRecord, match="interactions requires user_id, item_id or a text"):
        outgoing().of(Interaction(user_id="u", action="search"), NOW)
    with pytest.raises(InvalidRecord, match="without an item_id valid are view, click, search"):
        outgoing(FeatureSchema()).of(Interaction(user_id="u", action="fly", text="space war"), NOW)


def test_what_json_cannot_hold_is_refused() -> None:
    """As any other wrong value, not with an error of the encoder's."""
    with pytest.raises(InvalidRecord, match="no JSON"):
        outgoing().of(Interaction(user_id="u", item_id="i", action="click", context={"a": object()}), NOW)
    with pytest.raises(InvalidRecord, match="no JSON"):
        outgoing().of(Item(item_id="\ud800"), NOW)


def test_a_topic_that_is_mapped_is_others_to_write() -> None:
    """A click goes to the topic for any action then; a list goes nowhere."""
    ours = outgoing(fields={"clicks": {"item_id": Source(column="sku")}, "candidates": {"items": Source(column="x")}})
    assert ours.of(Interaction(user_id="u", item_id="i", action="click"), NOW).message.topic == "interactions"
    with pytest.raises(LiverankError, match=r"do not go onto candidates: \[topics.candidates.fields\] says"):
        ours.of(CandidateList(request_id="r", user_id="u", items=[]), NOW)
    with pytest.raises(LiverankError, match="do not go onto items"):
        outgoing(fields={"items": {"item_id": Source(column="sku")}}).withdrawn("i")
