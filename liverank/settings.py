"""Settings of every process: read once from `liverank.toml` and the environment, then frozen."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from ranker.contracts.decoding import Limits
from ranker.contracts.errors import SchemaError
from ranker.serving.rules import Rules

PREFIX = "LIVERANK_"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field is one key of `[liverank]` in `liverank.toml`, and `LIVERANK_<NAME>` in the environment, which wins."""

    brokers: str = "127.0.0.1:9092"
    registry: str = "registry"  # a folder, or any fsspec address
    data: Path = Path(".liverank/worker")  # the worker's own folder: RocksDB and a copy of the bundle it serves
    app: str = "liverank"  # the consumer group, and the prefix of changelog topics
    model: str = "default"  # the model's name in the registry and the key on model-updates
    partitions: int = 4  # of every user-keyed topic; fixed once topics exist
    replication: int = 1
    batch: int = 64  # users ranked in one call of the model
    checkpoint_ms: int = 250  # between two writes of changed rows
    cache_mb: int = 512  # encodings kept in memory
    threads: int = 1  # of ONNX Runtime, inside one operator
    provider: str = "auto"  # auto, cpu or cuda
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9108  # 0 lets the system choose, -1 turns the page off
    max_candidates: int = 1000
    max_message_bytes: int = 1 << 20
    max_ahead_ms: int = 300_000
    session_timeout_s: float = 6.0  # after this long without a heartbeat the broker gives a worker's users away
    attribution_ms: int = 30_000  # event time in which a list may still draw a click before it counts as ignored
    exploration: float = 0.0  # share of rankings whose last positions are shuffled
    exploration_after: int = 5  # positions that exploration leaves alone
    security_protocol: str = "PLAINTEXT"  # or SSL, SASL_PLAINTEXT, SASL_SSL
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str = ""
    ssl_cafile: str = ""
    trainer_data: Path = Path(".liverank/trainer")  # the trainer's own folder: its checkpoints
    trainer_metrics_port: int = 9109  # as metrics_port
    trainer_mode: str = "full"  # what the stream may change: rows, adapters or full
    train_batch: int = 64  # new examples of one step at most
    train_ms: int = 200  # for so long examples are gathered for a step
    dense_rate: float = 5e-4  # learning rate of dense weights
    row_rate: float = 1e-3  # and of item rows
    averaging: float = 0.995  # of the moving average of dense weights, a step; the average is what is published
    id_dropout: float = 0.2  # share of items whose id row is hidden in a step, so that texts carry new ones
    next_item: float = 0.05  # weight of the self-supervised loss on the history
    replay: int = 4096  # examples remembered against forgetting
    replayed: float = 1.0  # of them learned again beside each new one
    delta_ms: int = 1000  # between two deltas of changed item rows
    bundle_s: float = 5.0  # between two bundles, and two checkpoints
    bundle_examples: int = 0  # after so many new examples a bundle is made before that time is over; 0: never
    keep_bundles: int = 10  # of those that serve no more
    canary_share: float = 0.0  # share of users that a new version starts with; 0: all of them
    canary_least: int = 50  # clicks of the canary's users, and of the others, before anything is decided
    canary_margin: float = 0.02  # reciprocal rank of clicks that a canary may lose and still be promoted
    canary_alpha: float = 0.05  # chance of deciding wrongly about a canary
    canary_s: float = 3600.0  # after this long without a decision a canary is rolled back
    gate_least: int = 30  # examples without which the gate promotes nothing
    gate_margin: float = 0.05  # of reciprocal rank, by which a new version may look worse
    expire_days: float = 30.0  # a row that no example has named for so long is taken out; 0: never
    finetune_s: float = 0.0  # between two full fine-tunings on what is remembered; 0: never
    tracking: str = ""  # tensorboard:FOLDER or mlflow:ADDRESS
    rules: Rules = Rules()  # `[liverank.rules]`
    ready_file: Path | None = None  # written once recovery is done and a model serves

    @property
    def limits(self) -> Limits:
        """What an input may be at most."""
        return Limits(
            max_candidates=self.max_candidates,
            max_message_bytes=self.max_message_bytes,
            max_ahead_ms=self.max_ahead_ms,
        )

    @property
    def sasl_password(self) -> str:
        """The broker's password: from the environment alone, never from a file, never stored, never logged."""
        return os.environ.get(PREFIX + "SASL_PASSWORD", "")


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the `[liverank]` table of a file, if given, with the environment on top.

    Raises:
        SchemaError: an unknown name or a value of the wrong type, with what would be right.
    """
    environ = os.environ if environ is None else environ
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("liverank", {}) if path else {}
        found = {name: environ[PREFIX + name.upper()] for name in fields if PREFIX + name.upper() in environ}
        return msgspec.convert({**table, **found}, Settings, strict=False, dec_hook=_path)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SchemaError(f"{path} cannot be read: {error}") from error
    except msgspec.ValidationError as error:
        raise SchemaError(f"settings: {error}; known are {', '.join(sorted(fields))}") from error


def _path(kind: type, value: object) -> Path:
    """The one type here that msgspec does not know."""
    if kind is not Path or not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)
