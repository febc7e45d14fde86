"""Which rows a served version has yet to hear of: a delta sends those that moved most, the others wait."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ranker.items.catalog import grown


class UnsentRows:
    """For each version that deltas go to, how far every row has moved since it was last sent.

    Rows stand at the catalogue's indexes. A version starts with nothing to hear: its bundle held everything.
    """

    def __init__(self) -> None:
        self._moved: dict[str, np.ndarray] = {}

    @property
    def versions(self) -> list[str]:
        """Versions that deltas can be made for."""
        return list(self._moved)

    def add(self, version: str) -> None:
        """A bundle was made of everything that is known now."""
        self._moved[version] = np.zeros(1, np.float32)

    def keep(self, versions: set[str]) -> None:
        """No more deltas for any other version."""
        self._moved = {version: moved for version, moved in self._moved.items() if version in versions}

    def move(self, indexes: np.ndarray, distance: np.ndarray | float) -> None:
        """Rows changed: int64 indexes, each once, and how far."""
        if not len(indexes):
            return
        for version, moved in self._moved.items():
            self._moved[version] = grown(moved, int(indexes.max()) + 1)
            self._moved[version][indexes] += distance

    def waiting(self, version: str) -> int:
        """Rows that the version has yet to hear of."""
        return int(np.count_nonzero(self._moved[version]))

    def take(self, version: str, most: int) -> np.ndarray:
        """int64 indexes of the rows to send now, at least one allowed, those that moved most first; they are sent."""
        moved = self._moved[version]
        rows = np.flatnonzero(moved)
        if len(rows) > most:
            rows = rows[np.argpartition(moved[rows], -most)[-most:]]
        rows = rows[np.argsort(-moved[rows], kind="stable")]
        moved[rows] = 0
        return rows

    def state(self, rows: int) -> dict[str, np.ndarray]:
        """float32 [rows] by version, of the indexes from 0."""
        return {version: grown(moved, rows)[:rows].copy() for version, moved in self._moved.items()}

    def restore(self, state: Mapping[str, np.ndarray], indexes: np.ndarray) -> None:
        """Go on from what `state` gave, its rows standing at these indexes now."""
        self._moved = {}
        for version, moved in state.items():
            array = grown(np.zeros(1, np.float32), int(indexes.max(initial=0)) + 1)
            array[indexes] = moved
            self._moved[version] = array
