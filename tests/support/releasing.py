"""A trainer between a registry and what a broker would hold, without one: drafts, announcements, restarts."""

from __future__ import annotations

from pathlib import Path

from liverank.settings import Settings, changed
from online_learning.releases.origins import fetch_origin
from online_learning.trainer.metrics import TrainerMetrics
from online_learning.trainer.releases import Releases
from online_learning.trainer.startup import open_trainer
from online_learning.trainer.trainer import Trainer
from ranker.contracts.records import ModelUpdate
from ranker.items.catalog import Catalog
from ranker.rollout.stages import Stages, follow
from tests.support import stream
from tests.support.tiny import tiny_bundle


class Installation:
    """A registry with a first model, and what a broker would hold: examples, and announcements."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.settings = changed(Settings(),
            registry=str(folder / "registry"), trainer_data=folder / "trainer", train_batch=16, gate_least=0,
            gate_margin=9.0, provider="cpu", bundle_s=0.001, replay=50, keep_bundles=2, **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        self.first = tiny_bundle(folder / "registry", stream.SCHEMA)
        self.updates: list[ModelUpdate] = []

    def start(self) -> tuple[Trainer, Releases]:
        """What a new process does before its first batch."""
        known = Stages()
        for update in self.updates:
            known = follow(known, update)
        fetch = lambda version: fetch_origin(self.settings.trainer, version)  # noqa: E731
        trainer = open_trainer(self.settings.trainer, fetch(known.serving or self.first), known, Catalog(), fetch)
        releases = Releases(self.settings.trainer, trainer, known, TrainerMetrics())
        releases.begin()
        return trainer, releases

    def release(self, trainer: Trainer, releases: Releases, now: int) -> ModelUpdate | None:
        """One bundle from draft to compliance."""
        draft = releases.draft(now)
        releases.save(draft.state)
        update = releases.write(draft)
        if update is None or not releases.confirm(draft, update):
            update = None
        else:
            self.updates.append(update)
            releases.announced(update)
        releases.comply()
        return update

    def model_update(self, version: str, stage: str) -> ModelUpdate:
        """An operator's announcement."""
        return ModelUpdate(model="default", version=version, sha256="", stage=stage)
