"""What `topics check` finds, on facts that are made up: each thing that delivery hangs on, as an error or a warning."""

from __future__ import annotations

import re

import msgspec
import pytest

from ranker.mapping.topic_map import topic_map
from streams.kafka.admin import (
    ClusterFacts,
    TopicFacts,
    least_in_sync,
    topic_layouts,
    usual_replication,
    why_not_found,
)
from streams.kafka.checks import findings
from streams.settings import BrokerSettings

SETTINGS = BrokerSettings(app="shop")
#: What a broker says of a topic that is made by `liverank topics create` on three brokers.
SOUND = {
    "min.insync.replicas": "2", "max.message.bytes": str(8 << 20), "retention.ms": "604800000",
    "retention.bytes": "-1", "unclean.leader.election.enable": "false", "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": "9223372036854775807", "message.timestamp.after.max.ms": "3600000",
    "max.compaction.lag.ms": "9223372036854775807",
}  # fmt: skip


def cluster(
    settings: BrokerSettings = SETTINGS, brokers: int = 3, replication: int = 3, topic: str = "", **changes: str
) -> ClusterFacts:
    """A cluster on which all is as it has to be, but for these settings of one topic (or of all)."""
    topics = {}
    for layout in topic_layouts(settings):
        own = {name.replace("_", "."): value for name, value in changes.items() if layout.own.endswith(topic)}
        config = {**SOUND, "cleanup.policy": layout.policy, **layout.config, **own}
        topics[layout.name] = TopicFacts(partitions=layout.partitions, replication=replication, config=config)
    return ClusterFacts(brokers=brokers, topics=topics)


def found(facts: ClusterFacts, settings: BrokerSettings = SETTINGS) -> list[tuple[bool, str]]:
    """(error, text) of each finding."""
    return [(finding.error, finding.text) for finding in findings(topic_layouts(settings), facts)]


def test_what_is_made_for_three_brokers_is_sound() -> None:
    """Also on one broker, where there is nobody else to hold a copy."""
    assert found(cluster()) == []
    assert found(cluster(brokers=1, replication=1, min_insync_replicas="1")) == []


def test_replication_is_three_where_there_are_three_brokers() -> None:
    """And one broker may fail then."""
    assert [usual_replication(brokers) for brokers in (1, 2, 3, 9)] == [1, 1, 3, 3]
    assert [least_in_sync(copies) for copies in (1, 2, 3, 5)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("topic", "changes", "error", "says"),
    [
        ("", {"min_insync_replicas": "4"}, True, "is 4 and the replication factor 3 of clicks, views"),
        ("", {"min_insync_replicas": "3"}, False, "one broker that fails stops all writing"),
        ("", {"min_insync_replicas": "1"}, False, "may be gone with that one; set 2"),
        ("users", {"unclean_leader_election_enable": "true"}, False, "is true of users: after a fault"),
        ("clicks", {"cleanup_policy": "compact"}, True, "clicks has cleanup.policy=compact; it must be delete"),
        ("users", {"cleanup_policy": "compact,delete"}, True, "the topic users has cleanup.policy=compact,delete"),
        ("examples", {"max_message_bytes": "1048588"}, False, "max.message.bytes is 1048588 of examples"),
        ("-changelog", {"max_message_bytes": "65536"}, True, "65536 of shop-rows-changelog: rows, rankings"),
        ("examples", {"retention_ms": "3600000"}, False, "retention.ms is 3600000 of examples: what nobody has read"),
        ("model-deltas", {"retention_bytes": "1000"}, False, "retention.bytes is 1000 of model-deltas"),
        ("users", {"max_compaction_lag_ms": "604800000"}, False, "what was forgotten of a user may stay in it"),
        ("clicks", {"message_timestamp_type": "LogAppendTime"}, False, "LogAppendTime of clicks: where a body has no"),
        ("rankings", {"message_timestamp_before_max_ms": "1000"}, False, "waits for its broker for longer is refused"),
        ("clicks", {"message_timestamp_after_max_ms": "100"}, False, "clocks that differ by more stop their senders"),
        ("-changelog", {"message_timestamp_before_max_ms": "4200"}, False, "4200 of shop-rows-changelog: a"),
    ],
)  # fmt: skip
def test_each_setting_that_delivery_hangs_on(topic: str, changes: dict[str, str], error: bool, says: str) -> None:
    """One finding, which says which topics, what follows from it, and what to set."""
    ((is_error, text),) = found(cluster(topic=topic, **changes))
    assert is_error == error, text
    assert says in text


@pytest.mark.parametrize(("topic", "changes"), [
    ("clicks", {"max_message_bytes": "1048588"}),  # what others send is theirs to fit
    ("rankings", {"retention_ms": "60000"}),  # read at once or never
    ("examples", {"retention_ms": "-1"}),
    ("items", {"max_compaction_lag_ms": "604800000"}),
    ("-changelog", {"message_timestamp_type": "LogAppendTime"}),  # nothing goes by the time of a row's record
])  # fmt: skip
def test_what_does_no_harm_is_not_told(topic: str, changes: dict[str, str]) -> None:
    """A check that cries wolf is not read."""
    assert found(cluster(topic=topic, **changes)) == []


def test_one_copy_among_several_brokers_is_told_once() -> None:
    """Not once a topic."""
    ((error, text),) = found(cluster(replication=1, min_insync_replicas="1"))
    assert not error
    assert "the replication factor is 1, with 3 brokers, of clicks, views" in text
    assert "shop-rows-changelog" in text


def test_committed_offsets_of_one_copy_are_told() -> None:
    """They hold where each group stands; on one broker there is nothing to be done."""
    ((error, text),) = found(msgspec.structs.replace(cluster(), offset_copies=1))
    assert not error
    assert "of the committed offsets: with a broker they are gone" in text
    alone = cluster(brokers=1, replication=1, min_insync_replicas="1")
    assert found(msgspec.structs.replace(alone, offset_copies=1)) == []


def test_topics_of_others_are_called_as_they_are() -> None:
    """Missing, or with another number of partitions: what to do is not to create them."""
    topics = topic_map({"prefix": "a.", "clicks": "web.events", "views": "web.views"}, "x")
    settings = msgspec.structs.replace(SETTINGS, topics=topics)
    facts = cluster(settings)
    others = {name: one for name, one in facts.topics.items() if name not in ("web.events", "a.items")}
    others["web.views"] = msgspec.structs.replace(others["web.views"], partitions=12)
    texts = [text for _, text in found(msgspec.structs.replace(facts, topics=others), settings)]
    assert len(texts) == 3
    assert "the topic web.events, which [topics] names for clicks, does not exist" in texts[0]
    assert "the topic web.views has 12 partitions and must have 4" in texts[1]
    assert "set `partitions` to what all user-keyed topics have" in texts[1]
    assert "the topic a.items does not exist; `liverank topics create` makes it" in texts[2]
    assert settings.changelog == "a.shop-rows-changelog"


OTHER = "shop-rows-0123abcd-changelog"


@pytest.mark.parametrize(
    ("key", "topics", "says"),
    [
        ("", ["shop-rows-changelog"], None),
        ("", [], None),
        ("a key that is long enough", [], None),
        ("a key that is long enough", ["{ours}", "clicks"], None),
        # What other groups have, and what only looks like rows.
        ("a key that is long enough", ["other-rows-changelog", "shop-rows-x-changelog", "a.shop-rows-changelog"], None),
        ("", ["shop-rows-0123abcd-rows-changelog", "shop-rows-0123ABCD-changelog", OTHER + "s"], None),
        ("", [OTHER], r"of fingerprint 0123abcd, in shop-rows-0123abcd-changelog, and none is set: set it; where"),
        ("", ["shop-rows-changelog", OTHER], "of fingerprint 0123abcd, .* and none is set"),
        ("a key that is long enough", [OTHER], "of fingerprint 0123abcd, .* the one that is set has {fingerprint}"),
        ("a key that is long enough", [OTHER, "{ours}"], "of fingerprint 0123abcd"),
        ("a key that is long enough", ["shop-rows-changelog"], "under users' ids, .*`liverank topics pseudonymise`"),
        ("a key that is long enough", ["shop-rows-changelog", "{ours}"], "under users' ids"),
        ("too short", ["{ours}"], "has 9 characters and must have at least 16"),
    ],
)
def test_rows_of_another_key_are_never_passed_over(
    monkeypatch: pytest.MonkeyPatch, key: str, topics: list[str], says: str | None
) -> None:
    """Whatever is set, and whatever there is: one sentence that names the setting, and it holds no key."""
    monkeypatch.setenv("LIVERANK_PSEUDONYM_KEY", key)
    fingerprint = SETTINGS.row_names.fingerprint
    wrong = why_not_found(SETTINGS, [name.format(ours=SETTINGS.changelog) for name in topics])
    if says is None:
        assert wrong is None
    else:
        assert wrong is not None
        assert re.search(says.format(fingerprint=fingerprint), wrong), wrong
        assert "LIVERANK_PSEUDONYM_KEY" in wrong
        assert not key or key not in wrong


def test_a_changelog_of_another_key_is_not_told_of_as_missing() -> None:
    """To create it would be the wrong advice: the error says which key is right, and comes first."""
    facts = cluster()
    del facts.topics[SETTINGS.changelog]
    ((error, text),) = found(msgspec.structs.replace(facts, other_key="the key is another"))
    assert (error, text) == (True, "the key is another")
    del facts.topics["clicks"]
    texts = [text for _, text in found(msgspec.structs.replace(facts, other_key="the key is another"))]
    assert texts == ["the key is another", "the topic clicks does not exist; `liverank topics create` makes it"]
