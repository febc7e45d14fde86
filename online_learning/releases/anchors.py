"""Versions that served about an hour and about a day ago, which go on ranking what people choose.

Two versions that follow each other are seconds apart, so what one of them loses cannot be seen in the few examples
between them; what an hour of them loses can. An anchor is a bundle as it was made. It never takes deltas and never
learns; it ranks a sample, and both the trainer's weights and what serves are compared with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from msgspec import Struct

from online_learning.evaluation.progressive import chosen_rank
from online_learning.releases.compared import Compared
from online_learning.releases.snapshot import Snapshot
from ranker.features.list import list_inputs
from ranker.items.catalog import Catalog
from ranker.state.row import UserRow

#: name -> after so many milliseconds of the stream an anchor is replaced by what serves then.
SPANS = {"hour": 3_600_000, "day": 86_400_000}
#: Sooner than after so many examples none is: it would have said nothing yet.
LEAST_COMPARED = 200
#: Chance that what is as good as an anchor is ever called worse, so that learning goes back though nothing was lost.
BACK_ALPHA = 0.001
#: As `BACK_ALPHA`, for what may be worse: it is not made an anchor.
_DOUBT_ALPHA = 0.05


class Anchor(Struct, frozen=True):
    """One version to compare with."""

    version: str
    since: int = 0  # time of the first example that it ranked, in milliseconds
    trainer: Compared = Compared()  # the trainer's weights, less the anchor
    serving: Compared = Compared()  # what served, its row changes included, less the anchor

    def plus(self, ts: int, user: int, trainer: float, serving: float) -> Anchor:
        """One more example, by the two differences."""
        return Anchor(
            self.version, self.since or ts, self.trainer.plus(trainer, user), self.serving.plus(serving, user)
        )


class Asked(Struct, frozen=True):
    """What an anchor may be asked to rank: an example's list."""

    row: UserRow
    chosen: int | None  # place of the chosen item


class Anchors:
    """An anchor for each of `SPANS`; one version may be several, and is ranked by once."""

    def __init__(self, snapshot: Snapshot, kept: Snapshot) -> None:
        """
        Args:
            snapshot: the first anchor of all.
            kept: a snapshot that is not for the anchors to close: the first model's, which may be one of them.
        """
        self._kept = kept
        self._snapshots = {snapshot.version: snapshot}
        self.by_span = {name: Anchor(snapshot.version) for name in SPANS}

    @property
    def versions(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(anchor.version for anchor in tuple(self.by_span.values())))

    def ranks(
        self, asked: Sequence[Asked], weights: np.ndarray, catalog: Catalog, known: Mapping[str, Sequence[np.ndarray]]
    ) -> dict[str, list[int]]:
        """Ranks of the chosen items by version; one whose scores are not finite gives none.

        Args:
            asked: the sample, of which each drew something.
            weights: float [A] of the actions.
            catalog: the items.
            known: logits [C, A] of the sample by versions that have ranked it already.
        """
        found: dict[str, list[int]] = {}
        for version in self.versions if asked else ():
            logits = known.get(version) or self._logits(self._snapshots[version], asked, catalog)
            if all(np.isfinite(lines).all() for lines in logits):
                places = [one.chosen for one in asked if one.chosen is not None]
                found[version] = [chosen_rank(*one, weights) for one in zip(logits, places, strict=True)]
        return found

    def compare(self, ts: int, user: int, trainer: int, serving: int, anchored: Mapping[str, int]) -> None:
        """Keep one example's ranks: by the trainer, by what serves, and by each anchor."""
        for name, anchor in self.by_span.items():
            rank = anchored.get(anchor.version)
            if rank is not None:
                self.by_span[name] = anchor.plus(ts, user, 1 / trainer - 1 / rank, 1 / serving - 1 / rank)

    def against(self) -> dict[str, Compared]:
        """How the trainer's weights compare with each anchor, by its version; the longer comparison of two."""
        shortest_first = sorted(self.by_span.values(), key=lambda anchor: anchor.trainer.count)
        return {anchor.version: anchor.trainer for anchor in shortest_first}

    def better(self) -> Anchor | None:
        """The anchor that what serves is worse than for certain, by most; None where it is worse than none."""
        found = [anchor for anchor in self.by_span.values() if anchor.serving.worse(BACK_ALPHA)]
        return min(found, key=lambda anchor: anchor.serving.mean, default=None)

    def lost(self) -> Anchor | None:
        """An anchor that the trainer's weights are worse than for certain."""
        return next((anchor for anchor in self.by_span.values() if anchor.trainer.worse(BACK_ALPHA)), None)

    def due(self, now: int) -> list[str]:
        """Whose time is over: names of `SPANS`. One that what serves may be worse than stays.

        Args:
            now: time of the newest example, in milliseconds.
        """
        return [
            name
            for name, anchor in self.by_span.items()
            if anchor.since
            and now - anchor.since >= SPANS[name]
            and anchor.serving.count >= LEAST_COMPARED
            and not anchor.serving.worse(_DOUBT_ALPHA)
        ]

    def renew(self, names: Collection[str], snapshot: Snapshot) -> None:
        """This version is the anchor of these spans from now on."""
        for name in names:
            self.by_span[name] = Anchor(snapshot.version)
        self._snapshots[snapshot.version] = snapshot
        self._close_others()

    def restore(self, by_span: Mapping[str, Anchor], snapshots: Mapping[str, Snapshot]) -> None:
        """Go on from what was written down, as far as there are snapshots of the versions; else as it was."""
        self._snapshots.update(snapshots)
        for name, anchor in by_span.items():
            if name in self.by_span and anchor.version in self._snapshots:
                self.by_span[name] = anchor
        self._close_others()

    def _close_others(self) -> None:
        for version in set(self._snapshots) - set(self.versions):
            snapshot = self._snapshots.pop(version)
            if snapshot is not self._kept:
                snapshot.close()

    def _logits(self, snapshot: Snapshot, asked: Sequence[Asked], catalog: Catalog) -> list[np.ndarray]:
        listed = [list_inputs(one.row, catalog, snapshot.schema) for one in asked]
        return snapshot.scores([snapshot.inputs(one.row, lists) for one, lists in zip(asked, listed, strict=True)])
