"""What the worker tells Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from streams.telemetry.model_metrics import ModelMetrics

log = logging.getLogger(__name__)

_LATENCIES = (0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.035, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All numbers of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # processor time, memory, open files
        self._events = Counter("liverank_events", "Inputs handled", ["topic"], registry=registry)
        self._rankings = Counter("liverank_rankings", "Rankings sent", registry=registry)
        self._dead = Counter("liverank_dead_letters", "Inputs refused", ["topic", "reason"], registry=registry)
        self._latency = Histogram(
            "liverank_ranking_seconds",
            "From an input's timestamp to its ranking sent",
            buckets=_LATENCIES,
            registry=registry,
        )
        self._batch_users = Histogram("liverank_batch_users", "Users in a batch", buckets=_USERS, registry=registry)
        self._batch_seconds = Histogram(
            "liverank_batch_seconds", "Time of a batch in the scorer", buckets=_LATENCIES, registry=registry
        )
        self._checkpoint = Histogram(
            "liverank_checkpoint_seconds", "Time of a checkpoint", buckets=_LATENCIES, registry=registry
        )
        self._checkpoint_rows = Counter("liverank_rows_written", "Rows written by checkpoints", registry=registry)
        self._lag = Gauge(
            "liverank_lag", "Inputs in a partition that are not handled yet", ["topic", "partition"], registry=registry
        )
        self._held = Gauge(
            "liverank_open_transaction_offsets", "Offsets in a partition that an open transaction holds back",
            ["topic", "partition"], registry=registry,
        )  # fmt: skip
        self._holes = Counter(
            "liverank_reads_again", "Records lost between consumer and agent, read again", ["topic"], registry=registry
        )
        self._gaps = Counter(
            "liverank_offset_gaps", "Offsets that a topic skips (compaction, retention)", ["topic"], registry=registry
        )
        self._model = Gauge("liverank_model_info", "1 for the serving model", ["version"], registry=registry)
        self.models = ModelMetrics(registry)
        self._foreign = Counter(
            "liverank_foreign_partitions", "Inputs that murmur2 would put elsewhere", ["topic"], registry=registry
        )
        self.examples = Counter(
            "liverank_examples",
            "Examples sent by what the list drew; astray: positive actions on another list than the current ones",
            ["outcome"],
            registry=registry,
        )
        self._set_aside = Counter(
            "liverank_set_aside", "Records of followed topics that cannot be used", ["topic"], registry=registry
        )
        self._left_out = Counter(
            "liverank_values_left_out", "Declared features and fields whose value is none", ["topic", "name"],
            registry=registry,
        )  # fmt: skip
        self.reasons = Counter(
            "liverank_reasons", "Rankings of lists that ask for reasons; behind: without them, for want of time",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.words = Counter(
            "liverank_words", "Texts that people typed: encoded, failed, or come where there is no encoder",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self.damaged_rows = Counter("liverank_damaged_rows", "Stored rows that are none", registry=registry)
        self.damaged_stores = Counter(
            "liverank_damaged_stores", "Partitions whose rows on disk were damaged and are made anew of the changelog",
            registry=registry,
        )  # fmt: skip
        self._warned: set[str] = set()
        self.handled = 0  # inputs of all topics
        self._by_topic: dict[str, Counter] = {}

    def events(self, topic: str, count: int) -> None:
        """Inputs handled."""
        counter = self._by_topic.get(topic)
        if counter is None:
            counter = self._by_topic[topic] = self._events.labels(topic)
        counter.inc(count)
        self.handled += count

    def ranked(self, seconds: float) -> None:
        """A ranking was sent, so long after the timestamp of the input behind it."""
        self._rankings.inc()
        self._latency.observe(max(seconds, 0.0))

    def batch(self, users: int, seconds: float) -> None:
        """A batch left the scorer."""
        self._batch_users.observe(users)
        self._batch_seconds.observe(seconds)

    def dead_letter(self, topic: str, reason: str) -> None:
        """An input was refused."""
        self._dead.labels(topic, reason).inc()

    def set_aside(self, topic: str) -> None:
        """A record of a topic that every worker follows cannot be used."""
        self._set_aside.labels(topic).inc()

    def left_out(self, topic: str, name: str) -> None:
        """A declared feature of a candidate, or a field of a context, is of none of the kinds that it may be."""
        self._left_out.labels(topic, name).inc()

    def unencoded(self, failures: Sequence[Exception], texts: int) -> None:
        """Of so many texts that people typed the encoder failed on some."""
        self.words.labels("encoded").inc(texts - len(failures))
        if failures:
            self.words.labels("failed").inc(len(failures))
            log.error("%d texts that people typed cannot be encoded", len(failures), exc_info=failures[0])

    def checkpoint(self, rows: int, seconds: float) -> None:
        """A checkpoint was completed."""
        self._checkpoint_rows.inc(rows)
        self._checkpoint.observe(seconds)

    def hole(self, topic: str) -> None:
        """Records fetched before others never arrived; they are read again."""
        self._holes.labels(topic).inc()

    def foreign(self, topic: str) -> None:
        """A producer spreads keys in its own way. That is fine as long as all of them do: it is said once a topic."""
        self._foreign.labels(topic).inc()
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning(
                "%s is not partitioned by murmur2, Kafka's default: all producers of user-keyed topics must spread "
                "keys alike, or a user's inputs do not meet (with librdkafka: partitioner=murmur2_random)",
                topic,
            )

    def gap(self, topic: str) -> None:
        """The topic itself has no record at an offset in line."""
        self._gaps.labels(topic).inc()

    def lag(self, lags: Mapping[tuple[str, int], int], held: Mapping[tuple[str, int], int]) -> None:
        """Inputs waiting, and offsets held back, by topic and partition, for every partition of this worker."""
        for gauge, counts in ((self._lag, lags), (self._held, held)):
            gauge.clear()
            for (topic, partition), count in counts.items():
                gauge.labels(topic, str(partition)).set(count)

    def model(self, version: str) -> None:
        """The version that serves from now on."""
        self._model.clear()
        self._model.labels(version).set(1)
