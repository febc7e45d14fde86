"""A model version as a worker serves it, known to the trainer: it scores, takes deltas, and never learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from online_learning.learning.learner import Learner
from online_learning.recipe import Recipe
from ranker.contracts.schema import FeatureSchema
from ranker.features.list import ListInputs
from ranker.features.user import UserInputs, user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables, TableArrays
from ranker.network.transformer import ModelConfig, Ranker
from ranker.state.row import UserRow

Weights = Mapping[str, Tensor]


class Snapshot:
    """Dense weights, item rows and counts of one version. What is learned elsewhere later does not reach it."""

    def __init__(
        self,
        version: str,
        config: ModelConfig,
        weights: Weights,
        arrays: TableArrays,
        catalog: Catalog,
        encoder: str,
        schema: FeatureSchema,
        device: str = "cpu",
    ) -> None:
        self.version, self.schema = version, schema
        with torch.random.fork_rng(devices=[]):  # the trainer's own draws go on as if this had not been
            self._learner = Learner(config, ItemTables(arrays, catalog, encoder), Recipe(), device)
        self._learner.model.load_state_dict(dict(weights))
        self._learner.model.eval()

    @property
    def model(self) -> Ranker:
        """The dense weights."""
        return self._learner.model

    @property
    def tables(self) -> ItemTables:
        """The rows and counts."""
        return self._learner.tables

    def inputs(self, row: UserRow, listed: ListInputs, statistics: np.ndarray | None = None) -> UserInputs:
        """The features that this version sees; its own item statistics where none are given."""
        self.tables.sync()
        return user_inputs(row, listed, self.tables, self.schema, statistics)

    def scores(self, inputs: Sequence[UserInputs]) -> list[np.ndarray]:
        """float32 [C, A] logits of each list."""
        return self._learner.scores(inputs)

    def put_rows(self, rows: Mapping[str, bytes]) -> None:
        """Apply a delta's rows, as a worker does."""
        self.tables.sync()
        for item, packed in rows.items():
            self.tables.put_row(int(item), packed)
        self._learner.make_room(self._learner.catalog.count)
        indexes = [self._learner.catalog.index_of[int(item)] for item in rows]
        with torch.no_grad():
            vectors = torch.from_numpy(self.tables.ids[indexes]).to(self._learner.device)
            self._learner.items.ids.weight[indexes] = vectors

    def close(self) -> None:
        """Stop following the catalogue."""
        self.tables.close()
