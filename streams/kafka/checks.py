"""What delivery hangs on, checked: the topics as they are against the topics as they have to be.

An error is what loses, parts or stops something, so no worker starts with it. A warning is what a fault may cost, or
what will be missed only later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from ranker.contracts.topics import RANKINGS, TOPICS
from streams.kafka import connection
from streams.kafka.admin import (
    COMPACTION_LAG,
    DAY_MS,
    ClusterFacts,
    TopicFacts,
    TopicLayout,
    cluster_facts,
    least_in_sync,
    told_missing,
    told_partitions,
    topic_layouts,
)
from streams.settings import BrokerSettings

#: What the largest records of default settings need: a ranking, an example or a row of a thousand items.
_LEAST_MESSAGE_BYTES = 1 << 20
#: A record waits so long for its broker before its sender gives up; and clocks differ by so much.
_DELIVERY_MS, _SKEW_MS = 120_000, 60_000
_AGE, _AHEAD = "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"


class Finding(Struct, frozen=True):
    """What is wrong with some topics, as a sentence in which `{on}` stands for their names."""

    error: bool
    text: str


def check_topics(settings: BrokerSettings) -> list[str]:
    """The errors alone, each in a sentence; nothing where a worker may start.

    Raises:
        TopicError: the broker does not answer.
    """
    return [finding.text for finding in examine(settings) if finding.error]


def examine(settings: BrokerSettings) -> list[Finding]:
    """Everything that is wrong with the topics, errors first.

    Raises:
        TopicError: the broker does not answer.
    """
    return findings(topic_layouts(settings), cluster_facts(settings))


def findings(layouts: Iterable[TopicLayout], cluster: ClusterFacts) -> list[Finding]:
    """Everything that is wrong with topics, errors first; what holds for several of them is said once."""
    found: dict[Finding, list[str]] = {}
    missing: list[str] = []  # that we would make
    for layout in layouts:
        facts = cluster.topics.get(layout.name)
        if facts is not None:
            for finding in _of_topic(layout, facts, cluster.brokers):
                found.setdefault(finding, []).append(layout.shown)
        elif layout.theirs:
            found[_missing(layout)] = [layout.shown]
        elif cluster.other_key is None or layout.own in TOPICS:  # else the changelog has the name of another key
            missing.append(layout.name)
    named = [
        Finding(finding.error, finding.text.replace("{on}", ", ".join(topics))) for finding, topics in found.items()
    ]
    if missing:
        named.append(Finding(True, told_missing(missing)))
    if cluster.other_key is not None:
        named.insert(0, Finding(True, cluster.other_key))
    if cluster.offset_copies == 1 and cluster.brokers > 1:
        named.append(
            Finding(
                False,
                f"the replication factor is 1, with {cluster.brokers} brokers, of the committed offsets: with a broker "
                "they are gone, and all inputs are read again; set offsets.topic.replication.factor=3 before a first "
                "consumer, or reassign __consumer_offsets",
            )
        )
    return sorted(named, key=lambda finding: not finding.error)


def _missing(layout: TopicLayout) -> Finding:
    return Finding(
        True,
        f"the topic {layout.name}, which [topics] names for {layout.own}, does not exist; correct its name, or make "
        "it: liverank makes none that others have named",
    )


def _of_topic(layout: TopicLayout, facts: TopicFacts, brokers: int) -> Iterator[Finding]:
    yield from _shape(layout, facts)
    yield from _copies(facts, brokers)
    yield from _sizes(layout, facts)
    yield from _times(layout, facts)
    yield from _kept(layout, facts)


def _shape(layout: TopicLayout, facts: TopicFacts) -> Iterator[Finding]:
    """Partitions and clean-up policy."""
    if facts.partitions != layout.partitions:
        advice = "; set `partitions` to what all user-keyed topics have" if layout.theirs else ""
        yield Finding(
            True,
            told_partitions(layout.shown, facts.partitions, layout.partitions) + advice,
        )
    policy = facts.config.get("cleanup.policy")
    if policy and set(policy.split(",")) != {layout.policy}:
        yield Finding(True, f"the topic {layout.shown} has cleanup.policy={policy}; it must be {layout.policy}")


def _copies(facts: TopicFacts, brokers: int) -> Iterator[Finding]:
    """What a broker that fails takes along."""
    copies, in_sync = facts.replication, _number(facts, "min.insync.replicas")
    if copies == 1 and brokers > 1:
        yield Finding(
            False,
            f"the replication factor is 1, with {brokers} brokers, of {{on}}: what a broker holds is gone with it; "
            "use 3 with min.insync.replicas=2 (`liverank topics create --replication-factor 3` for new topics)",
        )
    if in_sync is not None and in_sync > copies:
        yield Finding(
            True,
            f"min.insync.replicas is {in_sync} and the replication factor {copies} of {{on}}: the broker confirms no "
            f"record at all; set {least_in_sync(copies)}",
        )
    elif in_sync is not None and 1 < in_sync == copies:
        yield Finding(
            False,
            f"min.insync.replicas is {in_sync}, as is the replication factor, of {{on}}: one broker that fails stops "
            "all writing; set one less",
        )
    elif in_sync == 1 and copies >= 3:
        yield Finding(
            False,
            f"min.insync.replicas is 1 and the replication factor {copies} of {{on}}: a record counts as confirmed "
            "when one broker has it, and may be gone with that one; set 2",
        )
    if facts.config.get("unclean.leader.election.enable") == "true":
        yield Finding(
            False,
            "unclean.leader.election.enable is true of {on}: after a fault a broker that lacks confirmed records may "
            "lead; set false",
        )


def _sizes(layout: TopicLayout, facts: TopicFacts) -> Iterator[Finding]:
    """Whether records of ours fit. What others send is theirs to fit."""
    most = _number(facts, "max.message.bytes")
    topic = TOPICS.get(layout.own)
    if most is None or "max.message.bytes" not in layout.config or (topic is not None and topic.direction == "in"):
        return
    if most < connection.MAX_MESSAGE_BYTES:
        yield Finding(
            most < _LEAST_MESSAGE_BYTES,
            f"max.message.bytes is {most} of {{on}}: rows, rankings and examples of long lists need up to "
            f"{connection.MAX_MESSAGE_BYTES}; a ranking that is not taken becomes a dead letter, a row ends its worker",
        )


def _times(layout: TopicLayout, facts: TopicFacts) -> Iterator[Finding]:
    """Which times of messages the broker takes, and whether they are the senders'."""
    age, ahead = _number(facts, _AGE), _number(facts, _AHEAD)
    arrival = facts.config.get("message.timestamp.type") == "LogAppendTime"
    topic = TOPICS.get(layout.own)
    if age is not None and age < _DELIVERY_MS:
        yield Finding(
            False,
            f"{_AGE} is {age} of {{on}}: a record that waits for its broker for longer is refused; set at least "
            f"{_DELIVERY_MS}",
        )
    if ahead is not None and ahead < _SKEW_MS:
        yield Finding(
            False, f"{_AHEAD} is {ahead} of {{on}}: clocks that differ by more stop their senders; set {_SKEW_MS}"
        )
    if arrival and topic is not None and topic.direction == "in":
        yield Finding(
            False,
            "message.timestamp.type is LogAppendTime of {on}: where a body has no ts, its time is when the broker took "
            "it, also where that was late; set CreateTime, or send ts",
        )


def _kept(layout: TopicLayout, facts: TopicFacts) -> Iterator[Finding]:
    """How long records stay, and how soon what was forgotten goes."""
    kept, lag = _number(facts, "retention.ms"), _number(facts, COMPACTION_LAG)
    if layout.policy == "delete" and layout.own != RANKINGS and kept is not None and 0 <= kept < DAY_MS:
        yield Finding(
            False,
            f"retention.ms is {kept} of {{on}}: what nobody has read by then, while a worker or the trainer was away, "
            f"is lost; set at least a day ({DAY_MS})",
        )
    if layout.policy == "delete" and (most := _number(facts, "retention.bytes")) is not None and most > 0:
        yield Finding(
            False,
            f"retention.bytes is {most} of {{on}}: records may go before anyone has read them; set -1 and let "
            "retention.ms decide",
        )
    if COMPACTION_LAG in layout.config and lag is not None and lag > DAY_MS:
        yield Finding(
            False,
            f"{COMPACTION_LAG} is {lag} of {{on}}: what was forgotten of a user may stay in it for as long; "
            f"set {DAY_MS}",
        )


def _number(facts: TopicFacts, key: str) -> int | None:
    text = facts.config.get(key, "")
    return int(text) if text.lstrip("-").isdecimal() else None
