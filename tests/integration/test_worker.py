"""A real worker on real brokers: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ranker.contracts.clock import now_ms
from ranker.contracts.records import DeadLetter, Ranking
from streams.pipeline.dead_letters import VALUE_LIMIT
from tests.support.installation import Installation, assert_state_and_rankings
from tests.support.waiting import eventually


def shown(user: str, *items: str, **more: Any) -> dict[str, Any]:
    """A list for a user."""
    return {"request_id": f"{user}-list", "user_id": user, "items": [{"item_id": item} for item in items], **more}


def ranking_of(installation: Installation, user: str, topic: str, offset: int) -> Ranking:
    """The first ranking of a user that knows of an input."""

    def found() -> Ranking | None:
        of_user = (ranking for ranking in installation.rankings() if ranking.user_id == user)
        return next((ranking for ranking in of_user if ranking.applied.get(topic, -1) >= offset), None)

    ranking: Ranking = eventually(f"a ranking of {user} that knows of {topic} {offset}", found)
    return ranking


def letter_of(installation: Installation, topic: str, partition: int, offset: int) -> DeadLetter:
    """The dead letter of an input."""

    def found() -> DeadLetter | None:
        place = topic, partition, offset
        letters = (one for one in installation.dead_letters() if (one.topic, one.partition, one.offset) == place)
        return next(letters, None)

    letter: DeadLetter = eventually(f"a dead letter for {topic}-{partition}:{offset}", found)
    return letter


@pytest.fixture
def user() -> str:
    """A user that no other test knows."""
    return f"user-{uuid.uuid4().hex[:8]}"


def test_each_event_gives_a_ranking_that_says_what_it_knows(installation: Installation, user: str) -> None:
    """A list is ranked, and again after each click: revisions count up, `applied` and `cause` name the input."""
    items = [f"item-{number}" for number in range(6)]
    partition, offset = installation.send("candidates", user, shown(user, *items))
    first = ranking_of(installation, user, "candidates", offset)
    assert (first.revision, first.applied, first.request_id) == (1, {"candidates": offset}, f"{user}-list")
    assert sorted(item.item_id for item in first.items) == items
    assert [item.rank for item in first.items] == [1, 2, 3, 4, 5, 6]
    for number, topic in enumerate(("clicks", "views", "interactions"), 2):
        event = {"user_id": user, "item_id": "item-1", "event_id": f"{user}-{number}"}
        event |= {"action": "click"} if topic == "interactions" else {}
        at = installation.send(topic, user, event)
        ranking = ranking_of(installation, user, topic, at[1])
        assert ranking.revision == number
        assert ranking.applied[topic] == at[1]
        assert (ranking.cause.topic, ranking.cause.partition, ranking.cause.offset) == (topic, *at)
        assert ranking.cause.event_id == f"{user}-{number}"
        before = {item.item_id: item.rank for item in first.items} if number == 2 else None
        if before is not None:
            assert {item.item_id: item.previous_rank for item in ranking.items} == before
    assert ranking.cause.kind == "click"
    assert partition == ranking.cause.partition


def test_two_lists_on_a_page(installation: Installation, user: str) -> None:
    """Each is ranked again by each event, under a name of its own; one that has ended is not, and a record with the
    request of one takes its place."""
    now = now_ms()
    left = {**shown(user, "item-1", "item-2"), "request_id": "left", "ts": now - 2000}
    right = {**shown(user, "item-3", "item-4", "item-5"), "request_id": "right", "ts": now - 1000, "k": 2}
    installation.send("candidates", user, left)
    installation.send("candidates", user, {**right, "expires_at": now + 60_000})
    _, offset = installation.send("clicks", user, {"user_id": user, "item_id": "item-2", "ts": now})
    installation.all_handled()
    last = {one.request_id: one for one in installation.rankings() if one.user_id == user}
    assert {name: (one.revision, one.applied["clicks"], len(one.items)) for name, one in last.items()} == {
        "left": (3, offset, 2), "right": (3, offset, 2),
    }  # fmt: skip
    assert len({one.ranking_id for one in last.values()}) == 2
    installation.send("candidates", user, {**left, "ts": now + 1, "items": [{"item_id": "item-9"}]})
    installation.send("clicks", user, {"user_id": user, "item_id": "item-9", "ts": now + 60_001})
    installation.all_handled()
    last = {one.request_id: one for one in installation.rankings() if one.user_id == user}
    assert {name: (one.revision, len(one.items)) for name, one in last.items()} == {"left": (5, 1), "right": (4, 2)}
    row = {key[1]: row for key, row in installation.stored_rows().items()}[user.encode()]
    assert [listed.request_id for listed in row.current] == ["left"]


def test_an_event_without_a_list_counts_for_the_list_that_comes(installation: Installation, user: str) -> None:
    """It gives no ranking of its own."""
    _, clicked = installation.send("clicks", user, {"user_id": user, "item_id": "item-3"})
    installation.all_handled()
    _, offset = installation.send("candidates", user, shown(user, "item-1", "item-2"))
    ranking = ranking_of(installation, user, "candidates", offset)
    assert ranking.revision == 2
    assert ranking.applied == {"clicks": clicked, "candidates": offset}
    assert [r.revision for r in installation.rankings() if r.user_id == user] == [2]


def test_ids_in_any_script_are_ids(installation: Installation) -> None:
    """Nothing assumes ASCII."""
    user = f"пользователь-{uuid.uuid4().hex[:6]}-用户"
    _, offset = installation.send("candidates", user, shown(user, "商品-1", "صنف-٢"))
    ranking = ranking_of(installation, user, "candidates", offset)
    assert {item.item_id for item in ranking.items} == {"商品-1", "صنف-٢"}


MALFORMED: dict[str, tuple[str, str, Any, str]] = {
    "not JSON": ("clicks", "not-json", b"clicked!", "JSON"),
    "half a record": ("views", "not-json", b'{"user_id": "bad", "item', "truncated"),
    "not UTF-8": ("clicks", "not-json", b'{"user_id": "bad", "item_id": "\xff\xfe"}', "UTF-8"),
    "a wrong type": ("clicks", "invalid", {"user_id": "bad", "item_id": 5}, "Expected `str | null`"),
    "a missing field": ("clicks", "invalid", {"user_id": "bad"}, "item_id"),
    "an array": ("clicks", "invalid", [1, 2], "object"),
    "another user's key": ("clicks", "key-mismatch", {"user_id": "other", "item_id": "item-1"}, "equal"),
    "an unknown action": (
        "interactions",
        "unknown-action",
        {"user_id": "bad", "item_id": "i", "action": "stare"},
        "view",
    ),
    "no action": ("interactions", "unknown-action", {"user_id": "bad", "item_id": "i"}, "click"),
    "an empty list": ("candidates", "empty-list", shown("bad"), "1 to 1000"),
    "a list of 10,000": ("candidates", "too-many-items", shown("bad", *map(str, range(10_000))), "1 to 1000"),
    "5 MB": ("clicks", "too-large", {"user_id": "bad", "item_id": "i", "text": "x" * 5_000_000}, "1048576"),
    "seconds": ("clicks", "past-timestamp", {"user_id": "bad", "item_id": "i", "ts": 1_700_000_000}, "milliseconds"),
    "no body": ("clicks", "null-value", None, "no body"),
    "no body of a list": ("candidates", "null-value", None, "no body"),
    "an item without an id": ("items", "invalid", {"title": "a hat"}, "item_id"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_becomes_one_dead_letter(installation: Installation, case: str) -> None:
    """It names the reason, what is wrong and where it stood, and carries the bytes."""
    topic, reason, value, words = MALFORMED[case]
    place = installation.send(topic, "bad", value)
    letter = letter_of(installation, topic, *place)
    assert letter.reason == reason
    assert words in letter.error
    sent = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
    assert letter.value == sent[:VALUE_LIMIT]


def test_a_timestamp_in_the_future_is_refused(installation: Installation) -> None:
    """Else one wrong clock would hold the newest place in a history for good."""
    ahead = now_ms() + 3_600_000
    place = installation.send("clicks", "bad", {"user_id": "bad", "item_id": "i", "ts": ahead})
    assert letter_of(installation, "clicks", *place).reason == "future-timestamp"


def test_a_message_without_a_key_is_refused(installation: Installation) -> None:
    """It may have gone to any partition."""
    place = installation.send("clicks", None, {"user_id": "bad", "item_id": "i"})
    letter = letter_of(installation, "clicks", *place)
    assert (letter.reason, "user_id" in letter.error) == ("missing-key", True)


def test_a_producer_with_a_partitioner_of_its_own_is_served(installation: Installation, user: str) -> None:
    """What counts is that a user's inputs meet: they may all lie in another partition than Kafka's default one."""
    right, _ = installation.send("views", user, {"user_id": user, "item_id": "item-3"})
    other = (right + 1) % installation.settings.broker.partitions
    installation.send("candidates", user, shown(user, "item-1", "item-2"), partition=other)
    _, offset = installation.send("clicks", user, {"user_id": user, "item_id": "item-1"}, partition=other)
    ranking = ranking_of(installation, user, "clicks", offset)
    assert ranking.revision == 2  # what lies in another partition is not of this row


def test_a_dead_letter_is_readable_json(installation: Installation) -> None:
    """Other tools read it too: the value is base64."""
    place = installation.send("clicks", "bad", b"\x00\xff")
    letter_of(installation, "clicks", *place)
    raw = [json.loads(message.value()) for message in installation.read("dead-letters")]
    (letter,) = [found for found in raw if (found["topic"], found["partition"], found["offset"]) == ("clicks", *place)]
    assert base64.b64decode(letter["value"]) == b"\x00\xff"


def test_a_new_item_is_usable_and_a_withdrawn_one_is_gone(installation: Installation, user: str) -> None:
    """Both at once, without a new model; an item that comes back is back."""
    new = f"new-{user}"
    installation.send("items", new, {"item_id": new, "title": "a hat", "category": "hats"})

    def ranked() -> list[str]:
        _, offset = installation.send("views", user, {"user_id": user, "item_id": "item-1"})
        return [item.item_id for item in ranking_of(installation, user, "views", offset).items]

    installation.send("candidates", user, shown(user, "item-1", new))
    eventually("the new item is ranked", lambda: new in ranked())
    installation.send("items", new, None)
    eventually("the withdrawn item is gone", lambda: new not in ranked())
    installation.send("items", new, {"item_id": new, "title": "a better hat"})
    eventually("the item is back", lambda: new in ranked())


def test_a_forgotten_user_is_forgotten(installation: Installation, user: str) -> None:
    """After an erasure no list and no history are left, and what comes later starts anew."""
    installation.send("candidates", user, shown(user, "item-1", "item-2"))
    installation.send("clicks", user, {"user_id": user, "item_id": "item-1"})
    time.sleep(0.01)  # the erasure's timestamp, in milliseconds, must lie after the click's
    installation.send("erasures", user, {"user_id": user})
    installation.all_handled()
    stored = {key[1]: row for key, row in installation.stored_rows().items()}
    row = stored[user.encode()]
    assert (row.candidates, row.events, row.count, row.attributes) == (None, b"", 0, {})
    time.sleep(0.01)
    _, offset = installation.send("candidates", user, shown(user, "item-2"))
    assert ranking_of(installation, user, "candidates", offset).revision == 4


def test_a_repeated_event_changes_nothing(installation: Installation, user: str) -> None:
    """The same event_id at a new offset: no new revision, no second count."""
    installation.send("candidates", user, shown(user, "item-1", "item-2"))
    event = {"user_id": user, "item_id": "item-1", "event_id": "once", "ts": now_ms()}
    installation.send("clicks", user, event)
    installation.send("clicks", user, event)
    installation.send("views", user, {"user_id": user, "item_id": "item-2"})
    installation.all_handled()
    assert max(ranking.revision for ranking in installation.rankings() if ranking.user_id == user) == 3


def test_a_ranking_too_large_for_its_topic_costs_itself(installation: Installation, user: str) -> None:
    """A list of 1,000 long ids on a topic that takes 1 MiB: its input has a dead letter, others are ranked, the worker
    goes on, and the state is kept: the next event is of a list that is known."""
    most_bytes(installation, "rankings", 1 << 20)
    try:
        long = [f"{number:04}" + "🛒" * 252 for number in range(1000)]
        place = installation.send("candidates", user, json.dumps(shown(user, *long), ensure_ascii=False).encode())
        letter = letter_of(installation, "candidates", *place)
        assert letter.reason == "unrankable" and "more than max.message.bytes of its topic" in letter.error
        other = f"{user}-other"
        _, offset = installation.send("candidates", other, shown(other, "item-1", "item-2"))
        assert ranking_of(installation, other, "candidates", offset).revision == 1
    finally:
        most_bytes(installation, "rankings", 8 << 20)
    _, offset = installation.send("clicks", user, {"user_id": user, "item_id": long[7]})
    assert len(ranking_of(installation, user, "clicks", offset).items) == 1000


def most_bytes(installation: Installation, topic: str, size: int) -> None:
    """How large a record of a topic may be from now on."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": installation.settings.broker.addresses})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def test_after_all_this_state_and_rankings_are_right(installation: Installation) -> None:
    """Nothing stopped, nothing was lost: rows equal the fold of the topics, last rankings the offline ones."""
    installation.all_handled()
    assert_state_and_rankings(installation)
    refused = [(letter.topic, letter.partition, letter.offset) for letter in installation.dead_letters()]
    assert len(refused) == len(set(refused)), "a dead letter came twice without a kill"
    assert installation.workers[0].process is not None
    assert installation.workers[0].process.poll() is None


def test_it_ends_in_order(installation: Installation) -> None:
    """SIGTERM: status 0, everything acknowledged, and the next start has nothing to do again."""
    worker = installation.workers[0]
    worker.stop()
    before = len(installation.rankings())
    worker.start().ready()
    installation.all_handled()
    assert len(installation.rankings()) == before
