"""Every topic: its name, partitions and clean-up policy; and the commands that create and check them.

All user-keyed inputs, the changelog and `items` have `settings.partitions` partitions. Faust's assignor groups topics
by their number of partitions and gives partition n of every topic in a group to one worker, so a user's clicks, lists
and row meet in one place. Another number on one of them would part them: `check` finds that before a worker starts.
"""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from msgspec import Struct

from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import MODEL_UPDATES, TOPICS, USERS
from streams.kafka import connection
from streams.kafka.fencing import ROW_AGE, oldest_row_ms
from streams.settings import BrokerSettings

#: The table of user rows. Faust calls its changelog `APP-TABLE-changelog`.
TABLE = "rows"

_TIMEOUT_S = 30.0
_ANSWER_S = 10.0
_DAY_MS = 86_400_000


log = logging.getLogger(__name__)


#: What to do where a topic is not the one that the state was folded from.
RECREATED_ADVICE = (
    "Start with another `app` name, or remove the consumer group, its changelog topic and the workers' data folders"
)


class TopicError(LiverankError):
    """A topic that is missing or must not be used as it is."""


class TopicLayout(Struct, frozen=True):
    """A topic as it has to be."""

    name: str
    partitions: int
    policy: str  # cleanup.policy: delete or compact
    config: dict[str, str] = {}


def changelog_name(settings: BrokerSettings) -> str:
    """The topic that keeps the rows: the state of record, RocksDB is a copy of it."""
    return f"{settings.app}-{TABLE}-changelog"


def topic_layouts(settings: BrokerSettings) -> tuple[TopicLayout, ...]:
    """Every topic of an installation, the rows' changelog among them."""
    large = {"max.message.bytes": str(connection.MAX_MESSAGE_BYTES)}
    # Compaction has to come round at least daily, since it is what removes a forgotten user's earlier rows.
    personal = {**large, "max.compaction.lag.ms": str(_DAY_MS)}
    rows = {**personal, ROW_AGE: str(oldest_row_ms(settings))}
    return (
        *(
            TopicLayout(
                topic.name,
                1 if topic.single else settings.partitions,
                "compact" if topic.compacted else "delete",
                {} if topic.name == MODEL_UPDATES else personal if topic.name == USERS else large,
            )
            for topic in TOPICS.values()
        ),
        TopicLayout(changelog_name(settings), settings.partitions, "compact", rows),
    )


def create_topics(settings: BrokerSettings) -> list[str]:
    """Create the topics that are missing and leave the others as they are.

    Returns:
        The names of the topics created.

    Raises:
        TopicError: the broker refused one, or does not answer.
    """
    client = AdminClient(connection.librdkafka(settings), logger=log)
    existing = _partitions(client, settings)
    missing = [topic for topic in topic_layouts(settings) if topic.name not in existing]
    if not missing:
        return []
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=settings.replication,
            config={"cleanup.policy": topic.policy, **topic.config},
        )
        for topic in missing
    ]
    for name, created in client.create_topics(wanted, operation_timeout=_TIMEOUT_S).items():
        try:
            created.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
                raise TopicError(f"the topic {name} cannot be created: {error.args[0].str()}") from error
    return [topic.name for topic in missing]


def check_topics(settings: BrokerSettings) -> list[str]:
    """What is wrong with the topics, each in a sentence; nothing where all is as it has to be.

    Raises:
        TopicError: the broker does not answer.
    """
    client = AdminClient(connection.librdkafka(settings), logger=log)
    existing = _partitions(client, settings)
    described = _described(client, [topic.name for topic in topic_layouts(settings) if topic.name in existing])
    problems = []
    for topic in topic_layouts(settings):
        found = existing.get(topic.name)
        if found is None:
            problems.append(f"the topic {topic.name} does not exist; `liverank topics create` makes it")
            continue
        if found != topic.partitions:
            problems.append(
                f"the topic {topic.name} has {found} partitions and must have {topic.partitions}, as the setting "
                "`partitions` says: a user's inputs would reach workers that do not hold the user's row"
            )
        config = described.get(topic.name, {})
        policy = config.get("cleanup.policy")
        if policy and set(policy.split(",")) != {topic.policy}:
            problems.append(f"the topic {topic.name} has cleanup.policy={policy}; it must be {topic.policy}")
        most, age = topic.config.get(ROW_AGE), config.get(ROW_AGE)
        if most and age and int(age) > int(most):
            problems.append(
                f"the topic {topic.name} has {ROW_AGE}={age}; with this session timeout it must be at most {most}, "
                "or a worker that stood still may write old rows over new ones"
            )
    return problems


def _partitions(client: AdminClient, settings: BrokerSettings) -> dict[str, int]:
    """Existing topics and their numbers of partitions."""
    try:
        listed: dict[str, Any] = client.list_topics(timeout=_ANSWER_S).topics
    except KafkaException as error:
        raise TopicError(f"no Kafka broker answers at {settings.addresses}: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in listed.items() if topic.error is None}


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
