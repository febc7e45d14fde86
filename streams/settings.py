"""What a worker is told: where the broker is, and how to serve. Frozen; `liverank.settings` reads it once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ranker.contracts.decoding import Limits
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.topic_map import TopicMap
from ranker.registry.settings import HostName, Natural, PagePort, Positive, Provider, RegistrySettings, Share, Span
from ranker.serving.options import Budget, RankingDetail, ServingOptions
from ranker.serving.rules import Rules
from ranker.state.fold import RowRules
from ranker.state.pseudonyms import RowNames

#: What the name of the table of user rows begins with.
TABLE = "rows"
#: A host, an IPv4 or a bracketed IPv6 address, with a port where it is not Kafka's 9092; several with commas.
_PORT = r"6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4}"
_ADDRESS = rf"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:({_PORT}))?"
_Addresses = Annotated[
    str,
    Meta(pattern=rf"^\s*{_ADDRESS}\s*(,\s*{_ADDRESS}\s*)*(?![\s\S])", description="host:port, several with commas"),
]
_AppName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,200}(?![\s\S])",
        description="1 to 200 letters, digits, '.', '_' and '-', as Kafka names topics",
    ),
]


class BrokerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[broker]` and `[topics]`: the brokers, the topics on them, and the consumer group that shares the users out."""

    addresses: _Addresses = "127.0.0.1:9092"  # host:port, several with commas
    app: _AppName = "liverank"  # the consumer group, and the prefix of changelog topics; the topics' prefix leads it
    partitions: Annotated[int, Meta(ge=1, le=100_000)] = 4  # of every user-keyed topic; fixed once topics exist
    #: Of topics that are created; 0: 3 where there are as many brokers, else 1.
    replication: Annotated[int, Meta(ge=0, le=32767)] = 0
    #: After this long without a heartbeat the broker gives a worker's users away.
    session_timeout_s: Annotated[float, Meta(gt=0, le=1e6)] = 6.0
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str = ""
    ssl_cafile: str = ""  # PEM: who signs the brokers' certificates; the system's authorities where it is empty
    ssl_certfile: str = ""  # PEM: this client's own certificate, where brokers ask for one (mTLS)
    ssl_keyfile: str = ""  # PEM: its private key; that of `ssl_certfile` where it is empty
    topics: TopicMap = TopicMap()  # `[topics]`

    @property
    def group(self) -> str:
        """The consumer group's name, with which all that belongs to this installation alone begins."""
        return f"{self.topics.prefix}{self.app}"

    @property
    def table(self) -> str:
        """The table of user rows. Where they are stored under a key, its name says under which."""
        return "-".join(filter(None, (TABLE, self.row_names.fingerprint)))

    @property
    def changelog(self) -> str:
        """The topic that keeps the rows: the state of record, RocksDB is a copy of it. Faust calls it so."""
        return f"{self.group}-{self.table}-changelog"

    @property
    def pseudonym_key(self) -> str:
        """The key of the hash under which a user's row is stored, in place of the id: from the environment alone, never
        logged; empty where rows are stored under ids.
        """
        return os.environ.get("LIVERANK_PSEUDONYM_KEY", "")

    @property
    def row_names(self) -> RowNames:
        """Under which names rows are stored."""
        return RowNames(self.pseudonym_key)

    @property
    def sasl_password(self) -> str:
        """The broker's password: from the environment alone, never from a file, never stored, never logged."""
        return os.environ.get("LIVERANK_SASL_PASSWORD", "")

    @property
    def ssl_key_password(self) -> str:
        """What `ssl_keyfile` is encrypted with, if it is; from the environment alone, as `sasl_password`."""
        return os.environ.get("LIVERANK_SSL_KEY_PASSWORD", "")


class WorkerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[worker]`, and the two groups that it shares with others."""

    broker: BrokerSettings = BrokerSettings()
    registry: RegistrySettings = RegistrySettings()
    data: Path = Path(".liverank/worker")  # the worker's own folder: RocksDB and a copy of the bundle it serves
    batch: Positive = 64  # users ranked in one call of the model
    checkpoint_ms: Positive = 250  # between two writes of changed rows
    cache_mb: Positive = 512  # of what is kept of users: encodings, rows, lists, last rankings; `budget` has the shares
    threads: Annotated[int, Meta(ge=1, le=4096)] = 1  # of ONNX Runtime, inside one operator
    provider: Provider = "auto"
    metrics_host: HostName = "127.0.0.1"
    metrics_port: PagePort = 9108  # 0 lets the system choose, -1 turns the page off
    max_candidates: Positive = 1000
    max_message_bytes: Positive = 1 << 20
    max_ahead_ms: Natural = 300_000
    attribution_ms: Natural = 30_000  # event time in which a list may still draw a click before it counts as ignored
    lists: Annotated[int, Meta(ge=1, le=8)] = 3  # current lists of one user, each re-ranked after each event
    #: How long a list without `expires_at` is re-ranked, in event time.
    list_hours: Annotated[float, Meta(gt=0, le=1e6)] = 24.0
    ranking_detail: RankingDetail = "full"  # of each ranked item: scores leaves out probabilities, order scores too
    words: bool = True  # encode what people type; else their texts count as events and say nothing
    exploration: Share = 0.0  # share of rankings whose last positions are shuffled
    exploration_after: Natural = 5  # positions that exploration leaves alone
    canary_least: Positive = 50  # clicks, and lists, of the canary's users and of the others before anything is decided
    canary_margin: Share = 0.02  # reciprocal rank of clicks that a canary may lose and still be promoted
    canary_fewer: Share = 0.1  # part of the clicks per list that it may lose
    canary_alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05  # chance of deciding wrongly about a canary
    canary_s: Span = 3600.0  # after this long without a decision a canary is rolled back
    reasons_ms: Natural = 20  # of a batch's time in which reasons are found for lists that ask; 0: for none
    rules: Rules = Rules()  # `[worker.rules]`
    starter: bool = True  # serve a starter model where the registry has no bundle; else wait for one
    schema: FeatureSchema | None = None  # `[schema]`, of that starter; another one than what serves has is told
    ready_file: Path | None = None  # written once recovery is done and a model serves

    @property
    def erasure_key(self) -> str:
        """The key of the hash that stands for a user on receipts: from the environment alone, never logged."""
        return os.environ.get("LIVERANK_ERASURE_KEY", "")

    @property
    def limits(self) -> Limits:
        """What an input may be at most."""
        return Limits(
            max_candidates=self.max_candidates,
            max_message_bytes=self.max_message_bytes,
            max_ahead_ms=self.max_ahead_ms,
        )

    @property
    def rows(self) -> RowRules:
        """What is kept of a user."""
        return RowRules(lists=self.lists, list_hours=self.list_hours)

    @property
    def serving(self) -> ServingOptions:
        """How to run the model."""
        return ServingOptions(provider=self.provider, threads=self.threads, budget=self.budget, rules=self.rules)

    @property
    def budget(self) -> Budget:
        """What is kept of users in memory."""
        return Budget(self.cache_mb)
