"""Who may do what on the broker: the least rights of each role, the commands that give them, and the look whether this
process has its own.

The roles are the processes and the people. Each has a user of its own, or a neighbour that was broken into could do as
they all do. Kafka lets who may read or write describe as well, and an idempotent producer needs no right besides.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import (
    DEAD_LETTERS,
    ERASURES,
    EXAMPLES,
    ITEM_VECTORS,
    ITEMS,
    MODEL_DELTAS,
    MODEL_UPDATES,
    TOPICS,
    USERS,
)
from streams.access.preflight import check_reached
from streams.kafka import connection
from streams.kafka.admin import topic_layouts
from streams.kafka.transactions import WORKER_IDS
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

WORKER, TRAINER, APPLICATION, OPERATOR, WEB = ROLES = ("worker", "trainer", "application", "operator", "web")
_ARTICLES = {WORKER: "a", TRAINER: "a", APPLICATION: "an", OPERATOR: "an", WEB: "a"}

_ANSWER_S = 10.0
_REFUSED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)
#: Kafka's operations, as its brokers and clients name them, and as kafka-acls.sh does.
_SPELT = {
    "READ": "Read", "WRITE": "Write", "CREATE": "Create", "DESCRIBE": "Describe", "DESCRIBE_CONFIGS": "DescribeConfigs",
}  # fmt: skip


class AccessError(LiverankError):
    """A right that this process's user has not: the topic, and the operation."""


class Rights(Struct, frozen=True, kw_only=True):
    """What a role may do: operations by the name of a topic, and the consumer groups that it may be in."""

    topics: dict[str, frozenset[str]]  # by the broker's names
    groups: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()  # transactional ids that it may write under
    transaction_prefix: str | None = None  # any transactional id that begins so
    group_prefix: str | None = None  # any group whose name begins so


def rights_of(role: str, settings: BrokerSettings, model: str = "default") -> Rights:
    """The least with which a role can do its work.

    Args:
        role: one of `ROLES`.
        settings: whose topics and groups.
        model: which a trainer learns.
    """
    called, layouts = settings.topics.called, topic_layouts(settings)
    inputs = [called(topic.name) for topic in TOPICS.values() if topic.direction == "in"]
    outputs = [called(topic.name) for topic in TOPICS.values() if topic.direction == "out"]
    everything, ours = [topic.name for topic in layouts], [topic.name for topic in layouts if not topic.theirs]
    vectors, updates, deltas, examples = map(called, (ITEM_VECTORS, MODEL_UPDATES, MODEL_DELTAS, EXAMPLES))
    match role:
        case "worker":
            may = {
                "READ": [*inputs, vectors, updates, deltas, settings.changelog],
                # Of inputs `users` alone, for tombstones of who was forgotten, where the topic is ours to clean.
                "WRITE": [*outputs, examples, vectors, updates, settings.changelog, *_ours(USERS, settings)],
                "DESCRIBE_CONFIGS": everything,  # it refuses to begin on topics that would lose what it writes
            }
            return Rights(
                topics=_by_topic(may), groups=(settings.group,), transaction_prefix=f"{settings.group}{WORKER_IDS}"
            )
        case "trainer":
            may = {
                "READ": [examples, *map(called, (ERASURES, ITEMS)), vectors, updates],
                "WRITE": [updates, deltas],
            }
            return Rights(
                topics=_by_topic(may),
                groups=(f"{settings.group}-trainer",),
                transactions=(f"{settings.group}-trainer-{model}",),  # see `online_learning.trainer.connection`
            )
        case "application":
            return Rights(topics=_by_topic({"READ": outputs, "WRITE": inputs}), group_prefix=APPLICATION)
        case "web":  # the page: an application that shows the catalogue, and moves versions
            may = {"READ": [*outputs, called(ITEMS), updates], "WRITE": [*inputs, updates]}
            return Rights(topics=_by_topic(may), groups=(f"{settings.group}-operator",), group_prefix=APPLICATION)
        case _:
            may = {
                "READ": [
                    *inputs, vectors, settings.changelog, called(DEAD_LETTERS), updates, deltas, examples,
                ],
                "WRITE": [updates],
                "CREATE": ours, "DESCRIBE": everything, "DESCRIBE_CONFIGS": everything,
            }  # fmt: skip
            return Rights(topics=_by_topic(may), groups=(f"{settings.group}-operator",))


def check_access(settings: BrokerSettings, role: str, model: str = "default") -> None:
    """Reach the broker, and see that this process's user may do what the role does.

    Raises:
        BrokerRefusal: no broker takes this client.
        AccessError: a right is missing; the topic and the operation are named.
    """
    check_reached(settings)
    client = AdminClient(connection.librdkafka(settings), logger=log)
    rights = rights_of(role, settings, model)
    asked = client.describe_topics(
        TopicCollection(list(rights.topics)), include_authorized_operations=True, request_timeout=_ANSWER_S
    )
    missing = missing_rights(rights.topics, {name: _allowed(answer) for name, answer in asked.items()})
    missing += missing_rights(dict.fromkeys(rights.groups, frozenset({"READ"})), _of_groups(client, rights.groups))
    if missing:
        article = _ARTICLES[role]
        raise AccessError(
            f"{shown_user(settings)} may not {', '.join(missing)}; `liverank topics acls` prints what {article} {role} "
            "needs"
        )


def missing_rights(needed: Mapping[str, frozenset[str]], allowed: Mapping[str, frozenset[str] | None]) -> list[str]:
    """Operation and name of each right that is needed and not given; where the broker says nothing, none is missing."""
    found = []
    for name, operations in needed.items():
        given = allowed.get(name)
        if given is not None and "ALL" not in given:
            found += [f"{operation} {name}" for operation in sorted(operations - given)]
    return found


def shown_user(settings: BrokerSettings) -> str:
    """As whom this process comes to the broker."""
    if settings.sasl_username:
        return f"the user {settings.sasl_username!r}"
    return f"the owner of {settings.ssl_certfile!r}" if settings.ssl_certfile else "a client without a name"


def acl_commands(settings: BrokerSettings, principals: Mapping[str, str], model: str = "default") -> list[str]:
    """The calls of kafka-acls.sh that give each role its rights.

    Args:
        settings: whose topics and groups.
        principals: role -> its user as Kafka names it, such as `User:worker`.
        model: which a trainer learns.
    """
    lines = []
    for role, principal in principals.items():
        rights = rights_of(role, settings, model)
        together: dict[frozenset[str], list[str]] = {}
        for topic, operations in rights.topics.items():
            together.setdefault(operations, []).append(topic)
        lines.append(f"# {role}")
        for operations, topics in together.items():
            may = _options("--operation", [_SPELT[operation] for operation in sorted(operations)])
            lines.append(_command(settings, principal, [*may, *_options("--topic", topics)]))
        begin = (
            []
            if rights.group_prefix is None
            else ["--group", rights.group_prefix, "--resource-pattern-type", "prefixed"]
        )
        for groups in (_options("--group", rights.groups), begin):
            if groups:
                lines.append(_command(settings, principal, ["--operation", "Read", *groups]))
        ids = _options("--transactional-id", rights.transactions)
        if rights.transaction_prefix is not None:
            ids = ["--transactional-id", rights.transaction_prefix, "--resource-pattern-type", "prefixed"]
        if ids:
            lines.append(_command(settings, principal, ["--operation", "Write", "--operation", "Describe", *ids]))
    return lines


def _command(settings: BrokerSettings, principal: str, rest: Iterable[str]) -> str:
    begins = ("kafka-acls.sh", "--bootstrap-server", settings.addresses, "--add", "--allow-principal", principal)
    return shlex.join([*begins, *rest])


def _options(name: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (name, value)]


def _ours(topic: str, settings: BrokerSettings) -> list[str]:
    return [] if topic in settings.topics.names else [settings.topics.called(topic)]


def _by_topic(may: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for operation, topics in may.items():
        for topic in topics:
            found.setdefault(topic, set()).add(operation)
    return {topic: frozenset(operations) for topic, operations in found.items()}


def _of_groups(client: AdminClient, groups: tuple[str, ...]) -> dict[str, frozenset[str] | None]:
    if not groups:
        return {}
    asked = client.describe_consumer_groups(list(groups), include_authorized_operations=True, request_timeout=_ANSWER_S)
    return {name: _allowed(answer) for name, answer in asked.items()}


def _allowed(answer: Any) -> frozenset[str] | None:
    """The operations that the broker says it allows; None where it does not say: it has no such topic, or no word."""
    try:
        described = answer.result(2 * _ANSWER_S)  # the client itself gives up earlier, and says why
    except KafkaException as error:
        # Whoever may read or write may describe: so this one may neither. Of settings the refusal says nothing.
        return frozenset({"DESCRIBE_CONFIGS"}) if error.args[0].code() in _REFUSED else None
    operations = described.authorized_operations
    return None if not operations else frozenset(operation.name for operation in operations)
