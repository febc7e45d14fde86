"""What a trainer is told. Frozen; `liverank.settings` reads it once."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ranker.contracts.schema import FeatureSchema
from ranker.mapping.topic_map import TopicMap
from ranker.registry.settings import RegistrySettings
from ranker.serving.options import ServingOptions


class TrainerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[trainer]`, and what it shares with others. How it reaches the broker its caller tells it."""

    registry: RegistrySettings = RegistrySettings()
    topics: TopicMap = TopicMap()  # `[topics]`
    data: Path = Path(".liverank/trainer")  # the trainer's own folder: its checkpoints
    threads: int = 1  # of torch and ONNX Runtime, inside one operator
    provider: str = "auto"  # auto, cpu or cuda: where golden outputs are checked
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9109  # 0 lets the system choose, -1 turns the page off
    mode: str = "full"  # what the stream may change: rows, adapters or full
    batch: int = 64  # new examples of one step at most
    gather_ms: int = 200  # for so long examples are gathered for a step
    dense_rate: float = 5e-4  # learning rate of dense weights
    row_rate: float = 1e-3  # and of item rows
    averaging: float = 0.995  # of the moving average of dense weights, a step; the average is what is published
    id_dropout: float | None = None  # share of items whose id row is hidden in a step; None: as the bundle was trained
    next_item: float = 0.05  # weight of the self-supervised loss on the history
    replay: int = 4096  # examples remembered against forgetting
    replayed: float = 1.0  # of them learned again beside each new one
    delta_ms: int = 1000  # between two deltas of changed item rows
    bundle_s: float = 5.0  # between two bundles, and two checkpoints
    bundle_examples: int = 0  # after so many new examples a bundle is made before that time is over; 0: never
    keep_bundles: int = 10  # of those that serve no more
    canary_share: float = 0.0  # share of users that a new version starts with; 0: all of them
    gate_least: int = 30  # examples without which the gate promotes nothing
    gate_margin: float = 0.05  # of reciprocal rank, by which a new version may look worse
    expire_days: float = 30.0  # a row that no example has named for so long is taken out; 0: never
    finetune_s: float = 0.0  # between two full fine-tunings on what is remembered; 0: never
    tracking: str = ""  # tensorboard:FOLDER or mlflow:ADDRESS
    schema: FeatureSchema | None = None  # `[schema]`: its weights go into what is made; another difference is told
    ready_file: Path | None = None  # written once it stands at its offsets

    @property
    def serving(self) -> ServingOptions:
        """How to run a bundle's graphs, where golden outputs are checked."""
        return ServingOptions(provider=self.provider, threads=self.threads)
