"""A loaded bundle: rows in, re-ranked lists out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranker.contracts.bundle_files import TABLES
from ranker.contracts.errors import BundleError
from ranker.features.history import EventArrays
from ranker.features.list import ListInputs, inputs_bytes, list_inputs
from ranker.features.user import KeptFeatures, UserInputs, user_inputs
from ranker.items.catalog import UNKNOWN, Catalog
from ranker.items.tables import ItemTables, TableArrays
from ranker.registry.bundle import Manifest, check_bundle
from ranker.serving import rules
from ranker.serving.golden import check_golden
from ranker.serving.options import ServingOptions
from ranker.serving.ranking import Ranked
from ranker.serving.scorer import Graphs, OnnxScorer, open_graphs
from ranker.state.bounded import BoundedCache
from ranker.state.row import CurrentList, KnownFields, UserRow

_LISTS_KEPT = 4  # of a user, of which the own inputs are kept


class _KeptList(NamedTuple):
    """A list's own inputs, what they are of, and what is kept beside them."""

    current: CurrentList
    attributes: KnownFields
    unknown: tuple[int, ...]  # hashes of its items that the catalogue did not know
    inputs: ListInputs
    features: KeptFeatures


class _KeptUser(NamedTuple):
    """What is kept of a user's inputs."""

    history: EventArrays
    lists: dict[str, _KeptList]  # by request


def _kept_bytes(window: int, features: int, user: _KeptUser) -> int:
    """What is kept of a user, by the window and the features of the model."""
    return EventArrays.size(window) + sum(
        inputs_bytes(one.inputs) + KeptFeatures.size(window, len(one.inputs.items), features)
        for one in user.lists.values()
    )


def load_model(
    folder: Path,
    catalog: Catalog,
    options: ServingOptions,
    like: ServingModel | None = None,
    rest: Callable[[], None] = lambda: None,
) -> ServingModel:
    """Load a bundle's folder for serving: hashes, schema and golden outputs are checked, and the graphs are warm.

    Args:
        folder: of the bundle.
        catalog: of the process.
        options: how to run the graphs.
        like: another version over the same catalogue, which may go on serving: what they share is taken from it.
        rest: called between two pieces of the work, for who has something else to let through.

    Raises:
        BundleError: what must not serve, and why.
    """
    manifest = check_bundle(folder)
    rest()
    graphs = open_graphs(folder, options, rest)
    check_golden(folder, graphs)
    rest()
    try:
        return ServingModel(folder, manifest, graphs, catalog, options, like, rest)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{folder} does not load: {error}") from error


class ServingModel:
    """One version of the model over the process's catalogue. One thread at a time calls `rank`."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        graphs: Graphs,
        catalog: Catalog,
        options: ServingOptions,
        like: ServingModel | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self.manifest = manifest
        self.version = manifest.version
        self.schema = manifest.schema
        self.encoder = manifest.encoder
        self.rules = options.rules
        self.sequence = 0  # of the last delta applied
        self.learned_until = manifest.learned_until  # by the bundle and the deltas applied since
        self.catalog = catalog
        arrays = TableArrays.load(folder / TABLES)
        rest()
        shared = None if like is None else like.tables
        self.tables: ItemTables = ItemTables(arrays, catalog, manifest.encoder, shared, rest)
        self.scorer = OnnxScorer(graphs, manifest.config, self.tables, options)
        self._weights = np.array([action.weight for action in self.schema.positives])
        self._actions = tuple(action.name for action in self.schema.positives)
        self._budget = options.budget
        # By user. What measures them must not hold this model: nobody would collect it when it has been replaced.
        measured = partial(_kept_bytes, self.schema.window, manifest.config["n_features"])
        self._kept: BoundedCache[str, _KeptUser] = BoundedCache(options.budget.lists, measured)

    def rank(self, rows: Sequence[tuple[str, UserRow]]) -> list[Ranked]:
        """Each row's newest list in its new order.

        A pure function of the rows, the catalogue and this model; what it keeps between calls only saves time.

        Args:
            rows: user ids with their rows, see `UserRow.of`. A user comes once for each list, with the same events.
        """
        inputs = self.inputs(rows)
        logits = self.scorer.score(inputs)
        return [
            self.ranked(row, users.candidates, scores)
            for (_, row), (_, users), scores in zip(rows, inputs, logits, strict=True)
        ]

    def encode(self, rows: Sequence[tuple[str, UserRow]]) -> None:
        """Encode these users' histories, so that their next ranking need not: most of what a first ranking costs more.

        Args:
            rows: as for `rank`.
        """
        self.scorer.encode(self.inputs(rows))

    def put_rows(self, rows: Mapping[str, bytes]) -> None:
        """Replace learned item rows: hashes of item ids in decimal, and the rows as `items.tables.pack_row` packs.

        Encodings of users who touched one of these items are made anew when they are next asked for.

        Raises:
            BundleError: a row has not this model's shape.
        """
        self.tables.sync()
        self.tables.put_rows([int(item) for item in rows], list(rows.values()))

    def forget(self, user_id: str) -> None:
        """Drop everything that is kept of a user."""
        self.scorer.forget(user_id)
        self._kept.pop(user_id)

    def limit(self, share: float) -> None:
        """Keep no more of users than such a share of the process's budget: other versions serve beside this one."""
        self.scorer.limit(round(share * self._budget.encodings))
        self._kept.most = round(share * self._budget.lists)

    def forget_some(self, users: int) -> bool:
        """Drop what is kept of so many users, whoever they are; whether there may be more. Any thread may ask."""
        more = self._kept.pop_oldest(users)
        return self.scorer.forget_some(users) or more

    def close(self) -> None:
        """Stop following the catalogue; the model must not rank any more."""
        self.tables.close()

    def inputs(self, rows: Sequence[tuple[str, UserRow]]) -> list[tuple[str, UserInputs]]:
        """What the graphs read of these users: the first step of `rank`. Arguments as there."""
        self.tables.sync()
        return [(user_id, self._inputs_of(user_id, row)) for user_id, row in rows]

    def _inputs_of(self, user_id: str, row: UserRow) -> UserInputs:
        kept = self._kept_of(user_id, row)
        return user_inputs(row, kept.inputs, self.tables, self.schema, kept=kept.features)

    def _kept_of(self, user_id: str, row: UserRow) -> _KeptList:
        """The list's own inputs, made anew when the list or the user's attributes changed, or an item became known."""
        assert row.candidates is not None
        current, user = row.candidates, self._kept.get(user_id) or _KeptUser(EventArrays(), {})
        kept = user.lists.get(current.request_id)
        if kept is not None and kept.current is current and kept.attributes == row.attributes:
            became_known = not self.catalog.index_of.keys().isdisjoint(kept.unknown)
            if not became_known:
                return kept
        inputs = list_inputs(row, self.catalog, self.schema)
        unknown = tuple(inputs.items[inputs.indexes == UNKNOWN].tolist())
        kept = _KeptList(current, row.attributes, unknown, inputs, KeptFeatures(user.history))
        others = user.lists if len(user.lists) < _LISTS_KEPT else {}
        self._kept.put(user_id, _KeptUser(user.history, {**others, current.request_id: kept}))
        return kept

    def ranked(self, row: UserRow, listed: np.ndarray, logits: np.ndarray) -> Ranked:
        """A row's list in the order of its scores: the last step of `rank`.

        Args:
            row: as for `rank`.
            listed: int64 [C], the candidates' indexes in the catalogue.
            logits: float32 [C, A] of the candidates.

        Raises:
            BundleError: a score is not finite.
        """
        assert row.candidates is not None
        current = row.candidates
        with np.errstate(over="ignore"):  # of a logit below -709: the chance is 0
            chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
        scores = chances @ self._weights
        if not np.isfinite(scores).all():
            raise BundleError(f"model {self.version} gives scores that are not finite", "not-finite")
        best = rules.order(scores, self.catalog.categories[listed], self.catalog.withdrawn[listed], self.rules)
        best = best[: current.k] if current.k else best
        return Ranked(
            current.item_ids,
            best,
            scores[best],
            chances[best],
            self._actions,
            statistics=self.tables.statistics[listed],
        )
