"""From learned weights to served versions and back: checkpoints, candidates, and what was announced by anyone.

`draft` and `comply` touch the trainer and belong between two batches; `write` does the slow part and touches nothing
of it, so learning goes on meanwhile. `confirm` belongs right before an announcement.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import NamedTuple

from online_learning.releases.gate import Reject
from online_learning.releases.origins import fetch_origin
from online_learning.releases.plan import next_stage, overtaken, starts_over
from online_learning.releases.pruning import prune_registry
from online_learning.releases.publishing import publish_again, publish_candidate
from online_learning.releases.snapshot import Snapshot
from online_learning.releases.versions import Origin, ReleaseCandidate
from online_learning.settings import TrainerSettings
from online_learning.trainer.checkpoint import TrainerState, newest_checkpoint, next_number, save_checkpoint
from online_learning.trainer.metrics import TrainerMetrics
from online_learning.trainer.startup import own_weights
from online_learning.trainer.state import belongs, capture, restore
from online_learning.trainer.trainer import Trainer
from ranker.contracts.errors import BundleError, OtherInputs
from ranker.contracts.records import ModelUpdate
from ranker.contracts.schema import differences
from ranker.registry.bundle import new_version
from ranker.rollout.stages import Stages, follow

log = logging.getLogger(__name__)


class GoBack(NamedTuple):
    """What was lost is taken back: an earlier version is to serve again, under a new name."""

    target: str
    version: str
    parent: str  # what served then


class Draft(NamedTuple):
    """The trainer at one moment: what to keep, and what to publish if anything may be published now."""

    state: TrainerState
    candidate: ReleaseCandidate | None = None
    snapshot: Snapshot | None = None
    stage: str = ""
    back: GoBack | None = None  # instead of a candidate

    def kept(self) -> Draft:
        """The same once its state is on disk. That is as large as all that is learned, and publishing takes a while."""
        return self._replace(state=TrainerState(arrays={}, facts={}))


def _refuse_others(origin: Origin, mine: Origin) -> None:
    """See that a version can be learned on from as it is.

    Raises:
        OtherInputs: it has another schema, encoder or other sizes: only a trainer that starts anew takes it.
    """
    found = [*differences(origin.schema, mine.schema)] if origin.schema.hash != mine.schema.hash else []
    if origin.config != mine.config and not found:
        found.append("the sizes of its model are others")
    if origin.encoder != mine.encoder:
        found.append(f"its texts are encoded by {origin.encoder} instead of {mine.encoder}")
    if found:
        raise OtherInputs(
            f"{origin.version} serves now, and is of another kind than what was learned on: {'; '.join(found)}. "
            "Started again it goes on from that version"
        )


class Releases:
    """The versions of one trainer on their way out."""

    def __init__(self, settings: TrainerSettings, trainer: Trainer, known: Stages, metrics: TrainerMetrics) -> None:
        """
        Args:
            settings: of the process.
            trainer: what learns.
            known: what has been announced up to now.
            metrics: counts candidates and checkpoints.
        """
        self._settings, self._trainer, self._metrics = settings, trainer, metrics
        self.stages = known
        self._ours: dict[str, Snapshot] = {}  # announced by us; a canary stays here until it serves or fails
        self._waiting: str | None = None  # announced by us, and not yet read back
        self._dropped: list[tuple[str, Snapshot]] = []
        self._number = next_number(settings.data)
        for left in (*settings.data.glob(".graphs-*"), *settings.data.glob(".bundle-*")):
            shutil.rmtree(left, ignore_errors=True)  # by a trainer that was killed
        self._graphs = settings.data / f".graphs-{os.getpid()}"
        self._take_up_canary()

    def begin(self) -> None:
        """Write a first checkpoint, where there is none that this trainer could go back to.

        Raises:
            OSError: it cannot be written.
        """
        state = newest_checkpoint(self._settings.data)
        if state is None or not belongs(self._trainer, state):
            self.save(capture(self._trainer))

    def announced(self, update: ModelUpdate) -> None:
        """A record of `model-updates`, in the topic's order."""
        self.stages = follow(self.stages, update)
        if update.version == self._waiting:
            self._waiting = None

    def draft(self, now: int) -> Draft:
        """Take the trainer's state, and a candidate of the same moment where one may start.

        The state knows of the candidate: so a trainer taken up again knows which rows its workers lack.
        """
        if (back := self._back(now)) is not None:
            return Draft(capture(self._trainer), back=back)
        stage = None if self._waiting else next_stage(self.stages, self._settings.canary_share)
        if stage is None or self._trainer.trained == self._trainer.bundled:
            self._trainer.postpone(now)
            return Draft(capture(self._trainer))
        candidate = self._trainer.candidate(new_version(now), now)
        return Draft(capture(self._trainer), candidate, self._trainer.snapshot(candidate), stage)

    def _back(self, now: int) -> GoBack | None:
        """Where learning and what serves have lost something for certain, and nobody forbids to take it back."""
        versions = self._trainer.versions
        target = versions.goes_back()
        if target is None or self._waiting or self.stages.pinned:
            return None
        back = GoBack(target, new_version(now), versions.serving.version)
        versions.go_back(back.version)
        self._trainer.postpone(now)
        return back

    def save(self, state: TrainerState) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        with self._metrics.checkpoint.time():
            save_checkpoint(self._settings.data, self._number, state)
        self._number += 1

    def write(self, draft: Draft) -> ModelUpdate | None:
        """Publish a draft's candidate, if it has one and the gate lets it pass; what to announce, else None.

        Nothing is announced without `confirm`.
        """
        candidate, snapshot = draft.candidate, draft.snapshot
        if draft.back is not None:
            return self._write_back(draft.back)
        if candidate is None or snapshot is None:
            return None
        try:
            with self._metrics.publish.time():
                found = publish_candidate(candidate, snapshot, draft.stage, self._settings, self._graphs)
        except (OSError, BundleError) as error:
            found = Reject(reason=f"the registry cannot be written: {error}")
            log.error("%s: %s", candidate.version, found.reason)
        if isinstance(found, Reject):
            self._reject(candidate.version, snapshot, f"is not published: {found.reason}")
            return None
        return found

    def _write_back(self, back: GoBack) -> ModelUpdate | None:
        """Publish the earlier version anew; None where it cannot be had now: the next draft tries again."""
        try:
            origin = fetch_origin(self._settings, back.target, learns=False)
            found = publish_again(origin, back.version, back.parent, self._settings, self._graphs)
        except (OSError, BundleError) as error:
            found = Reject(reason=str(error))
        if isinstance(found, Reject):
            log.error("%s is worse than %s, which cannot be published: %s", back.parent, back.target, found.reason)
            return None
        return found

    def confirm(self, draft: Draft, update: ModelUpdate) -> bool:
        """Whether what `write` gave may be announced now, by everything that was announced since the draft.

        Where it may, it counts as announced. Where somebody else has decided meanwhile, it is rejected.
        """
        if draft.back is not None:
            return self._confirm_back(draft.back, update)
        candidate, snapshot = draft.candidate, draft.snapshot
        assert candidate is not None, "only a candidate is written"
        assert snapshot is not None, "it is taken with the candidate"
        why = overtaken(self.stages, draft.stage, candidate.parent, self._settings.canary_share)
        if why is not None:
            self._reject(candidate.version, snapshot, f"is not announced: {why}")
            return False
        self._waiting, self._ours[candidate.version] = candidate.version, snapshot
        self._metrics.bundles.labels(draft.stage).inc()
        log.info("%s is %s: %s", update.version, update.stage, update.reason)
        return True

    def _confirm_back(self, back: GoBack, update: ModelUpdate) -> bool:
        """As `confirm`. Learning starts over from the version as from one that somebody else made serve."""
        if self.stages.serving not in (None, back.parent) or self.stages.pinned:
            log.info("%s is not announced: %s was made to serve meanwhile", back.version, self.stages.serving)
            return False
        self._waiting = back.version
        self._metrics.returns.inc()
        log.error("%s is %s: %s", update.version, update.stage, update.reason)
        return True

    def _reject(self, version: str, snapshot: Snapshot, why: str) -> None:
        self._dropped.append((version, snapshot))
        self._metrics.bundles.labels("rejected").inc()
        log.info("%s %s", version, why)

    def prune(self) -> None:
        """Delete bundles that nobody needs any more. Where the registry does not let us, the next time will do."""
        versions = self._trainer.versions
        try:
            compared = {versions.first.version, *versions.anchors.versions}
            for version in prune_registry(self._settings, self.stages, compared):
                log.info("%s is pruned", version)
        except (OSError, BundleError) as error:
            log.warning("old versions stay: %s", error)

    def comply(self) -> bool:
        """Go along with what was announced and refused: our own versions, and those that somebody else made serve.

        Returns:
            Whether learning goes on from other weights than before.

        Raises:
            OtherInputs: a version of another schema or other sizes was made to serve.
        """
        versions, said = self._trainer.versions, self.stages  # asked once: more may be announced meanwhile
        serving, canary = said.serving, said.canary
        other = False
        while self._dropped:
            version, snapshot = self._dropped.pop()
            versions.drop(version)
            snapshot.close()
        if serving is not None and serving != versions.serving.version:
            known = self._ours.pop(serving, None)
            if known is not None:
                versions.serve(known)
                self._renew_anchors()
            else:
                other = self._start_over(serving)
        if canary != (versions.canary and versions.canary.version):
            if versions.canary is not None:
                log.warning("the canary %s is none any more", versions.canary.version)
            versions.set_canary(self._ours.get(canary or ""))
        # A copy made in one step: `write` adds to it on another thread.
        for version in [name for name in tuple(self._ours) if name not in (self._waiting, canary)]:
            self._ours.pop(version).close()
        return other

    def _renew_anchors(self) -> None:
        """What serves now becomes the anchor of each span that is over. Where it cannot be had, the next one will."""
        versions = self._trainer.versions
        due = versions.anchors.due(self._trainer.learned_until)
        if not due:
            return
        try:
            origin = fetch_origin(self._settings, versions.serving.version, learns=False)
        except BundleError as error:
            log.warning("%s does not become an anchor: %s", versions.serving.version, error)
            return
        versions.anchors.renew(due, versions.as_anchor(origin))
        log.info("%s is compared with for a while: the %s before is over", origin.version, " and the ".join(due))

    def roll_back(self) -> None:
        """Take the newest checkpoint up again."""
        state = newest_checkpoint(self._settings.data)
        assert state is not None, "one is written before the first batch"
        restore(self._trainer, state)
        serving = self._trainer.versions.serving.version
        if starts_over(self.stages, serving, self._trainer.versions.unsent.versions):
            self._start_over(serving)

    def close(self) -> None:
        """Remove what only this process needed."""
        shutil.rmtree(self._graphs, ignore_errors=True)

    def _start_over(self, version: str) -> bool:
        log.warning("%s was made to serve: learning goes on from it", version)
        try:
            origin = fetch_origin(self._settings, version)
        except BundleError as error:
            log.error("learning goes on as it was: %s", error)
            if self.stages.serving == version:  # else somebody has decided anew while it was fetched
                self.stages = Stages(
                    serving=self._trainer.versions.serving.version,
                    canary=self.stages.canary,
                    followed=self.stages.followed,
                )
            return False
        _refuse_others(origin, self._trainer.origin)
        origin = own_weights(self._settings, origin)
        self._trainer.use(origin)
        snapshot = self._trainer.versions.snapshot(version, origin.weights, origin.tables)
        self._trainer.start_over(origin, snapshot)
        return True

    def _take_up_canary(self) -> None:
        """A canary that this trainer staged before it was started again is still its own."""
        canary = self.stages.canary
        if canary is None or canary not in self._trainer.versions.unsent.versions:
            return
        try:
            origin = fetch_origin(self._settings, canary)
        except BundleError as error:
            log.warning("the canary %s takes no deltas: %s", canary, error)
            return
        self._ours[canary] = self._trainer.versions.snapshot(canary, origin.weights, origin.tables)
        self._trainer.versions.canary = self._ours[canary]
