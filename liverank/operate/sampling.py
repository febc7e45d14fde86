"""Whether what others send fits: the newest records of each input topic, decoded as a worker would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from confluent_kafka import Message
from msgspec import Struct

from liverank.operate.reading import read_to_end
from liverank.settings import Settings
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import TOPICS
from ranker.registry.bundle import newest_version, read_remote_manifest
from streams.kafka.checks import Finding
from streams.kafka.connection import partition_of

_SHOWN = 3  # reasons a topic, each with its first record


class Sample(Struct, frozen=True, kw_only=True):
    """What the newest records of a topic are to a worker."""

    topic: str  # the broker's name
    records: int
    refused: dict[str, int]  # reason -> how many, the most frequent first
    first: dict[str, str]  # reason -> where its first one stands, and what is wrong with it
    elsewhere: int  # how many lie in another partition than Kafka's default partitioner gives their key


def sampled(settings: Settings, count: int) -> list[Finding]:
    """What of the newest records does not fit: an error where nothing of a topic does, else a warning.

    Args:
        settings: where the broker and the registry are.
        count: records of each input topic at most.

    Raises:
        LiverankError: a topic cannot be read.
    """
    if not count:
        return []
    broker, decode = settings.broker, _decoder(settings)
    found: list[Finding] = []
    for topic in TOPICS.values():
        if topic.direction == "in":
            a_partition = max(1, count // broker.partitions)
            newest = read_to_end(broker, topic.name, range(broker.partitions), newest=a_partition)
            found += told(sample_of(topic.name, newest, decode, broker.partitions))
    return sorted(found, key=lambda finding: not finding.error)


def sample_of(topic: str, messages: Iterable[Message], decode: InputDecoder, partitions: int) -> Sample:
    """Decode messages of one of our topics.

    Args:
        topic: by our name.
        messages: of it, by the broker's name.
        decode: as a worker decodes.
        partitions: of the topic.
    """
    records, elsewhere, called = 0, 0, topic
    refused, first = Counter[str](), dict[str, str]()
    for message in messages:
        records, called = records + 1, message.topic() or topic
        key, value = message.key(), message.value()
        at = Position(topic, message.partition() or 0, message.offset() or 0, message.timestamp()[1], called)
        try:
            decode(at, _bytes(key), _bytes(value), now_ms())
        except InvalidRecord as why:
            refused[why.reason] += 1
            first.setdefault(why.reason, f"{at.place}: {why.error}")
        else:
            elsewhere += key is not None and partition_of(_bytes(key) or b"", partitions) != at.partition
    return Sample(topic=called, records=records, refused=dict(refused.most_common()), first=first, elsewhere=elsewhere)


def told(sample: Sample) -> Iterator[Finding]:
    """A sample's findings; nothing where all fits."""
    bad = sum(sample.refused.values())
    if bad:
        reasons = [f"{count} {reason} ({sample.first[reason]})" for reason, count in sample.refused.items()]
        yield Finding(
            bad == sample.records,
            f"of the newest {sample.records} records of {sample.topic} {bad} do not fit "
            f"({bad / sample.records:.0%}) and become dead letters: {'; '.join(reasons[:_SHOWN])}",
        )
    if sample.elsewhere:
        yield Finding(
            False,
            f"of the newest {sample.records} records of {sample.topic} {sample.elsewhere} lie elsewhere than "
            "Kafka's default partitioner (murmur2) puts their keys: all producers of user-keyed topics must spread "
            "keys alike, or a user's inputs do not meet",
        )


def _decoder(settings: Settings) -> InputDecoder:
    return InputDecoder(_schema(settings), settings.worker.limits, settings.topics.translated)


def _schema(settings: Settings) -> FeatureSchema:
    """Of the newest bundle; where there is none, of the starter that a worker would make."""
    address, model = settings.registry.address, settings.registry.model
    own = settings.worker.schema or FeatureSchema()
    try:
        version = newest_version(address, model)
        return own if version is None else read_remote_manifest(settings.registry, version)[0].schema
    except LiverankError:
        return own


def _bytes(given: str | bytes | None) -> bytes | None:
    return given.encode() if isinstance(given, str) else given
