"""The live measures of the versions that serve, and the end of a canary.

Each worker compares what its own users do, and announces what that says on `model-updates`. No worker acts on its own
decision: all of them, this one too, follow the topic, where the first decision about a version counts (see
`ranker.rollout.stages`). Since any of them may be the first, they share the chance of being wrong: each takes the part
of `canary_alpha` that it has of the partitions. As long as the workers and their partitions stay the same, the chance
that any of them is ever wrong stays below the whole (Bonferroni's inequality). A worker that starts anew counts from
zero and has its part once more, and partitions that move take theirs along: each such start or assignment within one
trial may add up to the whole again.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic

import msgspec

from ranker.contracts.clock import now_ms
from ranker.contracts.records import ModelUpdate
from ranker.contracts.topics import MODEL_UPDATES
from ranker.rollout.canary import Comparison, Criteria, Decision, decide_canary
from ranker.rollout.stages import PROMOTED, ROLLED_BACK, key_of
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from streams.kafka.outbox import Outbox
from streams.settings import WorkerSettings
from streams.telemetry.model_metrics import ModelMetrics

log = logging.getLogger(__name__)

#: A worker without users has nothing to decide; the boundary asks for a chance above 0 all the same.
_LEAST_ALPHA = 1e-9
#: Lists of a trial that drew a click and whose time is not over yet; of more the oldest count at once.
_MOST_WAITING = 1 << 16


class _Trial:
    """One canary against one version, from when it began to serve; announced again later it is another trial."""

    def __init__(self, canary: ServingModel, current: ServingModel | None, since: int) -> None:
        self.canary, self.current = canary, current
        self.began, self.since = monotonic(), since  # the second by the time of events, in milliseconds
        self.compared = Comparison()
        self.failure: str | None = None
        self.decided = False
        self._drew: list[tuple[int, bool]] = []  # a heap: when a list's time is over, and whether it was the canary's

    def close(self, until: int, most: int = _MOST_WAITING) -> None:
        """Count the lists that drew a click and whose time is over: not before, since those that drew none are not
        known before either, and of the first lists of a trial all would seem to draw one.
        """
        while self._drew and (self._drew[0][0] < until or len(self._drew) > most):
            self.compared = self.compared.closed(True, heapq.heappop(self._drew)[1])

    def drew(self, over: int, on_canary: bool) -> None:
        """A list drew its first click; its time is over then."""
        heapq.heappush(self._drew, (over, on_canary))


class CanaryWatch:
    """Compares a canary with what serves. `clicked`, `ignored` and `failed` belong to the scorer thread, the rest to
    the loop.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        slot: ModelSlot,
        manifests: Mapping[str, str],
        outbox: Outbox,
        metrics: ModelMetrics,
        share_of_users: Callable[[], float],
    ) -> None:
        """
        Args:
            settings: what a decision asks for.
            slot: the models.
            manifests: version -> sha256 of its manifest.
            outbox: takes the decision.
            metrics: takes every click.
            share_of_users: which part of all users this worker has now.
        """
        self._settings, self._slot, self._manifests = settings, slot, manifests
        self._outbox, self._metrics, self._share_of_users = outbox, metrics, share_of_users
        self._lock = threading.Lock()
        self._trial: _Trial | None = None
        self._newest = 0  # time of an event

    def clicked(self, version: str, rank: int | None, listed: int, now: int) -> None:
        """A list drew its first click in time.

        Args:
            version: that ranked the list.
            rank: that it gave the clicked item, from 1; None where it did not show it.
            listed: the list's time, in milliseconds.
            now: the newest time that an event of its user had.
        """
        value = 1 / rank if rank else 0.0
        self._metrics.clicked(version, value)
        trial, on_canary = self._judged(version, now)
        if trial is not None:
            trial.compared = trial.compared.clicked(value, on_canary)
            if listed > trial.since:
                trial.drew(listed + self._settings.attribution_ms, on_canary)

    def ignored(self, version: str, listed: int, now: int) -> None:
        """A list's time is over, and it drew nothing. Arguments as for `clicked`."""
        trial, on_canary = self._judged(version, now)
        if trial is not None and listed > trial.since:
            trial.compared = trial.compared.closed(False, on_canary)

    def _judged(self, version: str, now: int) -> tuple[_Trial | None, bool]:
        """The trial that a version is part of, and whether it is the canary.

        Lists of before the trial count in it by their clicks alone: those of them that drew one already would be
        missing beside those that drew none.
        """
        self._newest, serving = max(now, self._newest), self._slot.serving
        if serving.canary is None or serving.current is None:
            return None, False
        trial = self._trial_of(serving.canary, serving.current)
        trial.close(self._newest)
        if version not in (serving.canary.version, serving.current.version):
            return None, False
        return trial, version == serving.canary.version

    def failed(self, canary: ServingModel, error: Exception) -> None:
        """The canary failed on somebody; they got the other model's ranking."""
        trial = self._trial_of(canary, self._slot.current)
        if trial.failure is None:
            log.error("the canary %s fails: %r", canary.version, error)
        trial.failure = f"it fails: {error!r:.500}"

    def refused(self, version: str, reason: str) -> None:
        """The canary does not load here. Without a word from anybody it would be one for ever, and no other begin."""
        current = self._slot.current
        if current is not None:
            self._announce(version, current.version, Decision(False, f"it does not serve: {reason:.500}"))

    def look(self) -> None:
        """Decide, where enough is known."""
        serving = self._slot.serving
        if serving.canary is None or serving.current is None:
            self._trial = None
            return
        trial = self._trial_of(serving.canary, serving.current)
        if trial.decided:
            return
        alpha = max(self._settings.canary_alpha * self._share_of_users(), _LEAST_ALPHA)
        decision = self._decision(trial, alpha)
        self._metrics.compared(trial.compared, alpha)
        if decision.promote is not None:
            trial.decided = True
            self._announce(serving.canary.version, serving.current.version, decision)

    def _decision(self, trial: _Trial, alpha: float) -> Decision:
        if trial.failure is not None:
            return Decision(False, trial.failure)
        settings = self._settings
        criteria = Criteria(
            alpha=alpha, margin=settings.canary_margin, fewer=settings.canary_fewer, least=settings.canary_least
        )
        decision = decide_canary(trial.compared, criteria)
        if decision.promote is None and monotonic() - trial.began > settings.canary_s:
            return Decision(False, f"undecided after {settings.canary_s:.0f} s: {decision.reason}")
        return decision

    def _announce(self, canary: str, current: str, decision: Decision) -> None:
        update = ModelUpdate(
            model=self._settings.registry.model,
            version=canary,
            sha256=self._manifests.get(canary, ""),
            stage=PROMOTED if decision.promote else ROLLED_BACK,
            reason=decision.reason,
            ts=now_ms(),
            previous=current,
            measured=True,
        )
        log.warning("the canary %s is %s: %s", canary, update.stage, decision.reason)
        self._outbox.send(MODEL_UPDATES, key_of(update), msgspec.json.encode(update))

    def _trial_of(self, canary: ServingModel, current: ServingModel | None) -> _Trial:
        """The trial of a loaded canary. What one thread still adds to an old trial does not reach the new one.

        Where another version has come to serve beside it, what people did with the one before says nothing about that.
        """
        with self._lock:
            before = self._trial
            if before is None or before.canary is not canary or before.current is not current:
                self._trial = _Trial(canary, current, self._newest)
                if before is not None and before.canary is canary:
                    self._trial.failure = before.failure  # it fails beside whatever serves
            assert self._trial is not None, "made above"
            return self._trial
