"""What versions of the registry make of rows, outside every worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from liverank.faults.checker.rankings import Scores
from liverank.settings import Settings
from ranker.contracts.errors import BundleError
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle
from ranker.serving.model import ServingModel, load_model
from ranker.state.row import UserRow


class OfflineRanker:
    """Ranks by any version that the registry still has, one loaded at a time."""

    def __init__(self, settings: Settings, catalog: Catalog, folder: Path) -> None:
        """
        Args:
            settings: of the installation.
            catalog: the items.
            folder: for copies of bundles.
        """
        self._settings, self._catalog, self._folder = settings, catalog, folder
        self._version = ""
        self._model: ServingModel | None = None

    def __call__(self, version: str, rows: Sequence[tuple[str, UserRow]]) -> list[Scores] | None:
        """The scores of each row's list; None where the version is gone."""
        model = self._loaded(version)
        if model is None:
            return None
        ranked = model.rank(rows)
        return [dict(zip(one.item_ids, one.scores.tolist(), strict=True)) for one in ranked]

    def _loaded(self, version: str) -> ServingModel | None:
        if version != self._version:
            try:
                folder = fetch_bundle(self._settings.registry, version, self._folder)
                self._model = load_model(folder, self._catalog, self._settings.worker.serving)
            except BundleError:
                self._model = None
            self._version = version
        return self._model
