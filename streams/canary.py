"""The live measure of the versions that serve, and the end of a canary.

Each worker compares the clicks of its own users, and announces what they say on `model-updates`. No worker acts on its
own decision: all of them, this one too, follow the topic, where the first decision about a version counts (see
`ranker.stages`). A worker that starts anew counts from zero, which costs clicks and not correctness.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic, time

import msgspec

from ranker.canary import Comparison, Criteria, Decision, decide
from ranker.records import ModelUpdate
from ranker.settings import Settings
from ranker.slot import ModelSlot
from ranker.stages import PROMOTED, ROLLED_BACK, key_of
from streams.model_metrics import ModelMetrics
from streams.outbox import Outbox
from streams.topics import MODEL_UPDATES

log = logging.getLogger(__name__)


class CanaryWatch:
    """Compares a canary with what serves. `clicked` and `failed` belong to the scorer thread, `look` to the loop."""

    def __init__(
        self, settings: Settings, slot: ModelSlot, manifests: Mapping[str, str], outbox: Outbox, metrics: ModelMetrics
    ) -> None:
        """
        Args:
            settings: what a decision asks for.
            slot: the models.
            manifests: version -> sha256 of its manifest.
            outbox: takes the decision.
            metrics: takes every click.
        """
        self._settings, self._slot, self._manifests = settings, slot, manifests
        self._outbox, self._metrics = outbox, metrics
        self._criteria = Criteria(
            alpha=settings.canary_alpha, margin=settings.canary_margin, least=settings.canary_least
        )
        self._watched = ""  # the canary that the rest is about
        self._began = 0.0
        self._compared = Comparison()
        self._failure: str | None = None
        self._decided = False

    def clicked(self, version: str, rank: int | None) -> None:
        """The first click on a list came on an item that this version had at `rank`; None where it did not show it."""
        value = 1 / rank if rank else 0.0
        self._metrics.reciprocal_rank.labels(version).observe(value)
        serving = self._slot.serving
        if serving.canary is None or serving.current is None:
            return
        self._watch(serving.canary.version)
        if version in (serving.canary.version, serving.current.version):
            self._compared = self._compared.plus(value, version == serving.canary.version)

    def failed(self, version: str, error: Exception) -> None:
        """The canary failed on somebody; they got the other model's ranking."""
        self._watch(version)
        if self._failure is None:
            log.error("the canary %s fails: %r", version, error)
        self._failure = f"it fails: {error!r:.500}"

    def look(self) -> None:
        """Decide, where enough is known."""
        serving = self._slot.serving
        if serving.canary is None or serving.current is None:
            return
        self._watch(serving.canary.version)
        if self._decided:
            return
        decision = self._decision()
        self._metrics.canary_difference.set(self._compared.canary.mean - self._compared.current.mean)
        if decision.promote is not None:
            self._decided = True
            self._announce(serving.canary.version, serving.current.version, decision)

    def _decision(self) -> Decision:
        if self._failure is not None:
            return Decision(False, self._failure)
        decision = decide(self._compared, self._criteria)
        if decision.promote is None and monotonic() - self._began > self._settings.canary_s:
            return Decision(False, f"undecided after {self._settings.canary_s:.0f} s: {decision.reason}")
        return decision

    def _announce(self, canary: str, current: str, decision: Decision) -> None:
        update = ModelUpdate(
            model=self._settings.model,
            version=canary,
            sha256=self._manifests.get(canary, ""),
            stage=PROMOTED if decision.promote else ROLLED_BACK,
            reason=decision.reason,
            ts=int(time() * 1000),
            previous=current,
            measured=True,
        )
        log.warning("the canary %s is %s: %s", canary, update.stage, decision.reason)
        self._outbox.send(MODEL_UPDATES, key_of(update), msgspec.json.encode(update))

    def _watch(self, version: str) -> None:
        """Start over where this is another canary than before."""
        if version != self._watched:
            self._watched, self._began, self._compared = version, monotonic(), Comparison()
            self._failure, self._decided = None, False
