"""Every topic as it has to be, what is on the broker, and the command that makes what is missing.

All user-keyed inputs, the changelog and `items` have `settings.partitions` partitions. Faust's assignor groups topics
by their number of partitions and gives partition n of every topic in a group to one worker, so a user's clicks, lists
and row meet in one place. Another number on one of them would part them: `streams.kafka.checks` finds that before a
worker starts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from msgspec import Struct

from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import MODEL_UPDATES, TOPICS, USERS
from ranker.state.pseudonyms import LEAST_KEY_LENGTH
from streams.kafka import connection
from streams.settings import TABLE, BrokerSettings

#: Compaction has to come round at least so often, since it is what removes a forgotten user's earlier rows.
DAY_MS = 86_400_000
COMPACTION_LAG = "max.compaction.lag.ms"

_TIMEOUT_S = 30.0
_ANSWER_S = 10.0
_USUAL_REPLICATION = 3
_OFFSETS = "__consumer_offsets"


log = logging.getLogger(__name__)


#: What to do where a topic is not the one that the state was folded from.
RECREATED_ADVICE = (
    "Start with another `app` name, or remove the consumer group, its changelog topic and the workers' data folders"
)


class TopicError(LiverankError):
    """A topic that is missing or must not be used as it is."""


class TopicLayout(Struct, frozen=True, kw_only=True):
    """A topic as it has to be."""

    name: str  # on the broker
    own: str  # ours; of the changelog its name
    partitions: int
    policy: str  # cleanup.policy: delete or compact
    config: dict[str, str] = {}
    theirs: bool = False  # an input that others have named and made

    @property
    def shown(self) -> str:
        """For people: the broker's name, and ours where that is no part of it."""
        return self.name if self.name.endswith(self.own) else f"{self.name} ({self.own})"


class TopicFacts(Struct, frozen=True, kw_only=True):
    """A topic as it is."""

    partitions: int
    replication: int  # of the partition that has fewest
    config: dict[str, str] = {}  # empty where the broker does not tell


class ClusterFacts(Struct, frozen=True, kw_only=True):
    """What is on the broker."""

    brokers: int
    topics: dict[str, TopicFacts]  # by the broker's names; settings of those alone that were asked for
    offset_copies: int | None = None  # of the topic of committed offsets; None where there is none yet
    other_key: str | None = None  # why rows are not found with the `pseudonym_key` that is set


def topic_layouts(settings: BrokerSettings) -> tuple[TopicLayout, ...]:
    """Every topic of an installation, the rows' changelog among them."""
    large = {"max.message.bytes": str(connection.MAX_MESSAGE_BYTES)}
    personal = {**large, COMPACTION_LAG: str(DAY_MS)}
    named = settings.topics
    return (
        *(
            TopicLayout(
                name=named.called(topic.name),
                own=topic.name,
                partitions=1 if topic.single else settings.partitions,
                policy="compact" if topic.compacted else "delete",
                config={} if topic.name == MODEL_UPDATES else personal if topic.name == USERS else large,
                theirs=topic.direction == "in" and topic.name in named.names,
            )
            for topic in TOPICS.values()
        ),
        TopicLayout(
            name=settings.changelog,
            own=settings.changelog,
            partitions=settings.partitions,
            policy="compact",
            config=personal,
        ),
    )


def create_topics(settings: BrokerSettings, replication: int | None = None) -> list[str]:
    """Create the topics that are missing and leave the others as they are, and to others those that they have named.

    Args:
        settings: where the broker is, and what the topics are called.
        replication: of the topics that are made; None: as the settings say.

    Returns:
        The names of the topics created.

    Raises:
        TopicError: the broker refused one, or does not answer; or the rows are stored under another key.
    """
    client = AdminClient(connection.librdkafka(settings), logger=log)
    facts = topics_there(client, settings)
    if facts.other_key is not None:
        raise TopicError(facts.other_key)
    return create_missing(client, settings, facts, replication)


def create_missing(
    client: AdminClient, settings: BrokerSettings, facts: ClusterFacts, replication: int | None = None
) -> list[str]:
    """As `create_topics`, where it is known what there is."""
    missing = [topic for topic in topic_layouts(settings) if topic.name not in facts.topics and not topic.theirs]
    if not missing:
        return []
    copies = replication or settings.replication or usual_replication(facts.brokers)
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=copies,
            config={
                "cleanup.policy": topic.policy, "min.insync.replicas": str(least_in_sync(copies)), **topic.config
            },
        )
        for topic in missing
    ]  # fmt: skip
    made = []
    for name, created in client.create_topics(wanted, operation_timeout=_TIMEOUT_S).items():
        try:
            created.result(_TIMEOUT_S)
            made.append(name)
        except KafkaException as error:
            why = error.args[0]
            if why.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
                raise TopicError(f"the topic {name} cannot be created: {why.str()}") from error
    return made


def check_there(settings: BrokerSettings, topics: Iterable[str]) -> None:
    """That topics exist: who follows one that does not would wait for it, and say nothing.

    Args:
        settings: where the broker is.
        topics: by the broker's names.

    Raises:
        TopicError: some do not, or the broker does not answer.
    """
    there = topics_there(AdminClient(connection.librdkafka(settings), logger=log), settings).topics
    if missing := [name for name in topics if name not in there]:
        raise TopicError(told_missing(missing))


def told_missing(topics: Sequence[str]) -> str:
    """That these topics of ours do not exist, in a sentence."""
    if len(topics) == 1:
        return f"the topic {topics[0]} does not exist; `liverank topics create` makes it"
    return f"the topics {', '.join(topics)} do not exist; `liverank topics create` makes them"


def told_partitions(topic: str, found: int, wanted: int) -> str:
    """That a user-keyed topic has another number of partitions than it must have, in a sentence."""
    return (
        f"the topic {topic} has {found} partitions and must have {wanted}, as the setting `partitions` says: a user's "
        "inputs would reach workers that do not hold the user's row"
    )


def check_row_names(settings: BrokerSettings) -> None:
    """That rows are stored under the names by which this process would look for them. To be asked before anything of
    them is read or written: under other names nothing would be found, and all users would start anew.

    Raises:
        TopicError: they are not, or the broker does not answer.
    """
    facts = topics_there(AdminClient(connection.librdkafka(settings), logger=log), settings)
    if facts.other_key is not None:
        raise TopicError(facts.other_key)


def changelogs_beside(settings: BrokerSettings, topics: Iterable[str]) -> list[str]:
    """Those of some topics that hold rows of this group which are stored under another key, or under none."""
    ours = re.compile(rf"{re.escape(settings.group)}-{TABLE}(-[0-9a-f]{{8}})?-changelog")
    return sorted(name for name in topics if name != settings.changelog and ours.fullmatch(name))


def why_not_found(settings: BrokerSettings, topics: Iterable[str]) -> str | None:
    """Why rows are not found, or would not be secret, with the `pseudonym_key` that is set; None where all is well.

    Args:
        settings: whose rows.
        topics: the names of all that there are.
    """
    names, variable = settings.row_names, "LIVERANK_PSEUDONYM_KEY"
    if names.hashed and len(settings.pseudonym_key) < LEAST_KEY_LENGTH:
        return (
            f"{variable} has {len(settings.pseudonym_key)} characters and must have at least {LEAST_KEY_LENGTH}, or it "
            "is found by trying: `openssl rand -hex 32` makes one"
        )
    beside = changelogs_beside(settings, topics)
    if not beside:
        return None
    there = beside[-1].removeprefix(f"{settings.group}-{TABLE}-").removesuffix("changelog").rstrip("-")
    whose = f"the rows of the group {settings.group!r} are stored"
    lost = "where that is lost, start with another `app` name, under which every user begins anew"
    if not there:
        return (
            f"{whose} under users' ids, in {beside[-1]}, and {variable} is set: take it away, or end all workers and "
            "have `liverank topics pseudonymise` store them under that key"
        )
    if not names.hashed:
        return f"{whose} under a {variable} of fingerprint {there}, in {beside[-1]}, and none is set: set it; {lost}"
    return (
        f"{whose} under a {variable} of fingerprint {there}, in {beside[-1]}, and the one that is set has "
        f"{names.fingerprint}: set that one; {lost}"
    )


def usual_replication(brokers: int) -> int:
    """How many brokers hold a topic where nobody says it: three, where there are three."""
    return _USUAL_REPLICATION if brokers >= _USUAL_REPLICATION else 1


def least_in_sync(replication: int) -> int:
    """How many brokers must have a record before it counts as confirmed: most of them, and one may fail."""
    return max(1, (replication + 1) // 2)


def cluster_facts(settings: BrokerSettings) -> ClusterFacts:
    """What the broker has of an installation's topics.

    Raises:
        TopicError: the broker does not answer.
    """
    client = AdminClient(connection.librdkafka(settings), logger=log)
    facts = topics_there(client, settings)
    ours = {topic.name: facts.topics[topic.name] for topic in topic_layouts(settings) if topic.name in facts.topics}
    described, offsets = _described(client, list(ours)), facts.topics.get(_OFFSETS)
    return ClusterFacts(
        brokers=facts.brokers,
        other_key=facts.other_key,
        offset_copies=None if offsets is None else offsets.replication,
        topics={
            name: TopicFacts(
                partitions=one.partitions, replication=one.replication, config=described.get(name, {})
            )
            for name, one in ours.items()
        },
    )  # fmt: skip


def topics_there(client: AdminClient, settings: BrokerSettings) -> ClusterFacts:
    """All existing topics, without their settings.

    Raises:
        TopicError: the broker does not answer.
    """
    try:
        listed: Any = client.list_topics(timeout=_ANSWER_S)
    except KafkaException as error:
        raise TopicError(f"no Kafka broker answers at {settings.addresses}: {error.args[0].str()}") from error
    return ClusterFacts(
        brokers=len(listed.brokers),
        other_key=why_not_found(settings, listed.topics),
        topics={
            name: TopicFacts(
                partitions=len(topic.partitions),
                replication=min((len(one.replicas) for one in topic.partitions.values()), default=0),
            )
            for name, topic in listed.topics.items()
            if topic.error is None
        },
    )


def _described(client: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """The topics' settings; a broker that does not say leaves the topic or the setting out."""
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for resource, described in client.describe_configs(resources).items():
        try:
            entries = described.result(_TIMEOUT_S)
        except KafkaException:
            continue
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items() if entry.value}
    return found
