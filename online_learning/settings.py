"""What a trainer is told. Frozen; `liverank.settings` reads it once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from online_learning.online_recipe import Mode
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.topic_map import TopicMap
from ranker.registry.settings import HostName, Natural, PagePort, Positive, Provider, RegistrySettings, Share, Span
from ranker.serving.options import ServingOptions

_BelowOne = Annotated[float, Meta(ge=0, lt=1)]
_Margin = Annotated[float, Meta(ge=-1, le=1000)]
_Rate = Annotated[float, Meta(ge=0, le=1000)]
_Tracking = Annotated[
    str,
    Meta(
        pattern=r"^((tensorboard|mlflow):[\s\S]+)?(?![\s\S])",
        description="tensorboard:FOLDER, mlflow:ADDRESS, or empty",
    ),
]


class TrainerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[trainer]`, and what it shares with others. How it reaches the broker its caller tells it."""

    registry: RegistrySettings = RegistrySettings()
    topics: TopicMap = TopicMap()  # `[topics]`
    data: Path = Path(".liverank/trainer")  # the trainer's own folder: its checkpoints
    threads: Annotated[int, Meta(ge=1, le=4096)] = 1  # of torch and ONNX Runtime, inside one operator
    provider: Provider = "auto"  # where golden outputs are checked
    metrics_host: HostName = "127.0.0.1"
    metrics_port: PagePort = 9109  # 0 lets the system choose, -1 turns the page off
    mode: Mode = Mode.FULL  # what the stream may change
    batch: Positive = 64  # new examples of one step at most
    gather_ms: Natural = 200  # for so long examples are gathered for a step
    dense_rate: _Rate = 5e-4  # learning rate of dense weights
    row_rate: _Rate = 1e-3  # and of item rows
    averaging: _BelowOne = 0.995  # of the moving average of dense weights, a step; the average is what is published
    id_dropout: Share | None = None  # share of items whose id row is hidden in a step; None: as the bundle was trained
    next_item: _Rate = 0.05  # weight of the self-supervised loss on the history
    replay: Natural = 4096  # examples remembered against forgetting
    replayed: _Rate = 1.0  # of them learned again beside each new one
    delta_ms: Positive = 1000  # between two deltas of changed item rows
    bundle_s: Annotated[float, Meta(gt=0, le=1e9)] = 5.0  # between two bundles, and two checkpoints
    bundle_examples: Natural = 0  # after so many new examples a bundle is made before that time is over; 0: never
    keep_bundles: Natural = 10  # of those that serve no more
    canary_share: _BelowOne = 0.0  # share of users that a new version starts with; 0: all of them
    gate_least: Natural = 30  # examples without which the gate promotes nothing
    gate_margin: _Margin = 0.05  # of reciprocal rank, by which a new version may look worse
    expire_days: Span = 30.0  # a row that no example has named for so long is taken out; 0: never
    finetune_s: Span = 0.0  # between two full fine-tunings on what is remembered; 0: never
    tracking: _Tracking = ""
    schema: FeatureSchema | None = None  # `[schema]`: its weights go into what is made; another difference is told
    ready_file: Path | None = None  # written once it stands at its offsets

    @property
    def serving(self) -> ServingOptions:
        """How to run a bundle's graphs, where golden outputs are checked."""
        return ServingOptions(provider=self.provider, threads=self.threads)
