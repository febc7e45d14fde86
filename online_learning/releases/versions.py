"""The versions that the trainer knows: the first, the one that serves, a canary, anchors; what they lack, how they
compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from msgspec import Struct

from online_learning.evaluation.progressive import Tested
from online_learning.recipe import Recipe
from online_learning.releases.anchors import Anchors, Asked
from online_learning.releases.compared import Newest
from online_learning.releases.drift import DriftAlarm
from online_learning.releases.gate import Evidence
from online_learning.releases.snapshot import Snapshot, Weights
from online_learning.releases.unsent import UnsentRows
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import TableArrays
from ranker.network.transformer import ModelConfig

_MADE = 256


class Origin(Struct, frozen=True, kw_only=True):
    """The bundle that a trainer starts from."""

    version: str
    config: ModelConfig
    weights: Weights
    tables: TableArrays
    schema: FeatureSchema
    encoder: str
    learned_until: int = 0
    offsets: dict[str, int] = {}
    recipe: Recipe = Recipe()  # how it was trained; the defaults where the bundle does not say
    by_trainer: bool = False  # whether a trainer made it, from its stream
    readable: frozenset[str] = frozenset()  # hashes of earlier schemas whose examples mean the same to this one
    since_starter: int | None = None  # examples learned from since the starter; None: it began with a training


class ReleaseCandidate(Struct, frozen=True, kw_only=True):
    """All of a version that is to be published, taken at one moment."""

    version: str
    parent: str
    weights: Weights
    tables: TableArrays
    evidence: Evidence
    learned_until: int
    trained: int
    offsets: dict[str, int]
    recipe: Recipe = Recipe()
    since_starter: int | None = None


class Versions:
    """One version serves; a canary may serve some. Both take deltas; the first model and the anchors take none."""

    def __init__(
        self, origin: Origin, catalog: Catalog, newest: int, device: str = "cpu", first: Origin | None = None
    ) -> None:
        """
        Args:
            origin: what serves until another does.
            catalog: the items.
            newest: examples that comparisons are over.
            device: where to score.
            first: the model that all learning began with; `origin` where None.
        """
        self._origin, self._catalog, self._device = origin, catalog, device
        first = first or origin
        self.first = self.snapshot(first.version, first.weights, first.tables)
        self.serving = self.snapshot(origin.version, origin.weights, origin.tables)
        self.canary: Snapshot | None = None
        self._made_last: str | None = None  # on its way: others that come and go do not cost it its base
        self.made: list[str] = []  # the newest versions taken from this trainer, or from the one it goes on from
        self.unsent = UnsentRows()
        self.unsent.add(origin.version)
        self.returned: str | None = None  # the newest version that was made to go back to an earlier one
        self.drift = DriftAlarm(newest)
        self._compared = Newest(newest)
        self.anchors = Anchors(self.as_anchor(origin), self.first)

    @property
    def live(self) -> list[Snapshot]:
        """The versions that take deltas now, and whose rows are known well enough to make them."""
        wanted = [self.serving, *([self.canary] if self.canary else [])]
        return [snapshot for snapshot in wanted if snapshot.version in self.unsent.versions]

    @property
    def held(self) -> bool:
        """Whether row changes wait: what serves is worse than an anchor, or learning went back and has yet to pass."""
        return self.serving.version == self.returned or self.anchors.better() is not None

    def goes_back(self) -> str | None:
        """The version to go back to, where something was lost for certain: to the anchor that what serves is worse
        than; to what serves, as it was made, where the trainer's weights alone are worse than an anchor.
        """
        better = self.anchors.better()
        if better is not None:
            return better.version
        return None if self.anchors.lost() is None else self.serving.version

    def as_anchor(self, origin: Origin) -> Snapshot:
        """A snapshot of a version that takes no deltas."""
        if origin.version == self.first.version:
            return self.first
        return self.snapshot(origin.version, origin.weights, origin.tables)

    def snapshot(self, version: str, weights: Weights, tables: TableArrays) -> Snapshot:
        """A version as workers serve it. Takes a while; any thread may do it."""
        origin = self._origin
        return Snapshot(
            version, origin.config, weights, tables, self._catalog, origin.encoder, origin.schema, self._device
        )

    def make(self, version: str) -> None:
        """A bundle is made of everything that is known now."""
        self._remember(version)
        self._made_last = version
        self.unsent.add(version)

    def go_back(self, version: str) -> None:
        """A bundle of this name is made of an earlier version; learning starts over from it once it serves."""
        self._remember(version)
        self.returned = version

    def _remember(self, version: str) -> None:
        self.made = [*self.made[1 - _MADE :], version]

    def start_from(self, origin: Origin) -> None:
        """Snapshots are of this version's schema from now on, which differs in the actions' weights at most."""
        self._origin = origin

    def serve(self, snapshot: Snapshot) -> None:
        """This version serves from now on: later tests are against it, and deltas go to it alone."""
        self.serving.close()
        self.serving = snapshot
        self.canary = self._made_last = None
        self.unsent.keep({snapshot.version})
        self._compared.restart()
        self.drift.restart()

    def set_canary(self, snapshot: Snapshot | None) -> None:
        """A canary beside what serves, or none any more."""
        self.canary = snapshot
        if snapshot is not None and snapshot.version == self._made_last:
            self._made_last = None
        canary = None if snapshot is None else snapshot.version
        self.unsent.keep(
            {version for version in (self.serving.version, self._made_last, canary) if version is not None}
        )

    def drop(self, version: str) -> None:
        """The version was refused: it never takes deltas."""
        self.unsent.keep(set(self.unsent.versions) - {version})
        if version == self._made_last:
            self._made_last = None
        if self.canary is not None and self.canary.version == version:
            self.canary = None

    def anchored(
        self, asked: Sequence[Asked], weights: np.ndarray, first: Sequence[np.ndarray], most: int
    ) -> list[dict[str, int]]:
        """For each example the chosen item's rank by each anchor's version; nothing where it is not of the sample.

        Args:
            asked: a batch; of those that drew something up to `most` are the sample, evenly spaced.
            weights: float [A] of the actions.
            first: logits [C, A] of each by the first model, which may be an anchor.
            most: above 0.
        """
        drew = [at for at, one in enumerate(asked) if one.chosen is not None]
        sample = drew[:: max(1, -(-len(drew) // most))]
        known = {self.first.version: [first[at] for at in sample]}
        ranks = self.anchors.ranks([asked[at] for at in sample], weights, self._catalog, known)
        found: list[dict[str, int]] = [{} for _ in asked]
        for version, ranked in ranks.items():
            for at, rank in zip(sample, ranked, strict=True):
                found[at][version] = rank
        return found

    def compare(self, ts: int, user: int, ours: Tested, theirs: Tested, anchored: Mapping[str, int]) -> None:
        """Keep one example's tests for the gate.

        Args:
            ts: of the example, in milliseconds.
            user: whose it is.
            ours: by the trainer's weights.
            theirs: by the serving version.
            anchored: the chosen item's rank by anchors, where the example is of their sample.
        """
        self.drift.update(ours.loss - theirs.loss)
        if ours.rank is not None and theirs.rank is not None:
            self._compared.add(1 / ours.rank - 1 / theirs.rank, user)
            self.anchors.compare(ts, user, ours.rank, theirs.rank, anchored)

    def evidence(self, weights: Weights, tables: TableArrays) -> Evidence:
        """What speaks for and against a candidate."""
        finite = all(bool(torch.isfinite(value).all()) for value in weights.values())
        return Evidence(
            serving=self._compared.value,
            anchors=self.anchors.against(),
            drift=self.drift.raised,
            finite=finite and bool(np.isfinite(tables.ids).all()),
        )
