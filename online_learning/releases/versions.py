"""The versions that the trainer knows: the first, the one that serves, a canary; what they lack, how they compare."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from msgspec import Struct

from online_learning.evaluation.progressive import Tested
from online_learning.recipe import Recipe
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
    """One version serves; a canary may serve some. Both take deltas; the first model takes none, for comparison."""

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
        self.drift = DriftAlarm(newest)
        self._pairs: deque[tuple[int, int, int]] = deque(maxlen=newest)

    @property
    def live(self) -> list[Snapshot]:
        """The versions that take deltas now, and whose rows are known well enough to make them."""
        wanted = [self.serving, *([self.canary] if self.canary else [])]
        return [snapshot for snapshot in wanted if snapshot.version in self.unsent.versions]

    def snapshot(self, version: str, weights: Weights, tables: TableArrays) -> Snapshot:
        """A version as workers serve it. Takes a while; any thread may do it."""
        origin = self._origin
        return Snapshot(
            version, origin.config, weights, tables, self._catalog, origin.encoder, origin.schema, self._device
        )

    def make(self, version: str) -> None:
        """A bundle is made of everything that is known now."""
        self.made = [*self.made[1 - _MADE :], version]
        self._made_last = version
        self.unsent.add(version)

    def start_from(self, origin: Origin) -> None:
        """Snapshots are of this version's schema from now on, which differs in the actions' weights at most."""
        self._origin = origin

    def serve(self, snapshot: Snapshot) -> None:
        """This version serves from now on: later tests are against it, and deltas go to it alone."""
        self.serving.close()
        self.serving = snapshot
        self.canary = self._made_last = None
        self.unsent.keep({snapshot.version})
        self._pairs.clear()
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

    def compare(self, user: int, ours: Tested, theirs: Tested) -> None:
        """Keep one example's tests, of the trainer and of the serving version, for the gate."""
        self.drift.update(ours.loss - theirs.loss)
        if ours.rank is not None and theirs.rank is not None:
            self._pairs.append((ours.rank, theirs.rank, user))

    def evidence(self, weights: Weights, tables: TableArrays) -> Evidence:
        """What speaks for and against a candidate."""
        pairs = np.array(list(self._pairs), np.int64).reshape(-1, 3)
        finite = all(bool(torch.isfinite(value).all()) for value in weights.values())
        return Evidence(
            candidate=pairs[:, 0],
            serving=pairs[:, 1],
            users=pairs[:, 2],
            drift=self.drift.raised,
            finite=finite and bool(np.isfinite(tables.ids).all()),
        )
