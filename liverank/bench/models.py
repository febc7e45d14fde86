"""VersionMaker of one model for the benchmarks, of the default size with random weights and item rows, and their users.

What a ranking or a swap costs does not depend on what the weights say, so nothing is trained here; every weight differs
between two versions. Items have text vectors, as in a catalogue with titles: a version that loads projects all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import torch

from liverank.settings import Settings
from liverank.simulate.tastes import Taste
from liverank.simulate.users import PopularityRecall, SimulatedUser
from online_learning.learning.learner import empty_arrays, model_config
from online_learning.releases.writing import Provenance, publish_model
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Interaction, ItemVector, ModelUpdate
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import TableArrays
from ranker.network.transformer import Ranker
from ranker.registry.bundle import new_version

ENCODER, ENCODER_WIDTH = "bench", 384  # as wide as the default encoder's vectors
_NEIGHBOURS = 8
_TASTES, _FACTORS = 100, 8
_STRENGTH = 2.0  # deviation of utilities, as in `liverank.simulate.tastes`


class VersionMaker:
    """Makes versions, one after another, and puts them into the registry."""

    def __init__(
        self, settings: Settings, items: Sequence[str], folder: Path, schema: FeatureSchema | None = None
    ) -> None:
        """
        Args:
            settings: name the model and the registry.
            items: ids of the items that the versions know.
            folder: for graphs whose weights are replaced from version to version.
            schema: of the versions; the default one where None.
        """
        self._settings, self._graphs = settings, folder / "graphs"
        self._hashes = np.array([hash_id(item) for item in items], np.int64)
        self._schema = schema or FeatureSchema()
        self._made = 0
        self._newest: str | None = None

    def publish(self) -> ModelUpdate:
        """Make the next version; the record that announces it as promoted."""
        torch.manual_seed(self._made)
        config = model_config(self._schema)
        network = Ranker(config)
        with torch.no_grad():
            for weight in network.parameters():  # also those that a training starts from zero
                weight.add_(torch.randn_like(weight) * 0.1)
        about = Provenance(
            model=self._settings.registry.model, schema=self._schema, encoder=ENCODER, version=new_version(now_ms()),
            parent=self._newest, created=now_ms(),
        )  # fmt: skip
        tables = self._tables(network)
        _, sha256 = publish_model(network.eval(), tables, about, self._settings.registry.address, self._graphs)
        update = ModelUpdate(
            model=self._settings.registry.model,
            version=about.version,
            sha256=sha256,
            previous=self._newest,
            ts=about.created,
        )
        self._made += 1
        self._newest = about.version
        return update

    def _tables(self, network: Ranker) -> TableArrays:
        rng, count = np.random.default_rng(self._made), len(self._hashes)
        empty = empty_arrays(network.config, ENCODER_WIDTH, _NEIGHBOURS)
        shown = rng.integers(20, 500, count)
        chosen = rng.binomial(shown, 0.05)
        return msgspec.structs.replace(
            empty,
            items=self._hashes,
            ids=rng.normal(0, 0.1, (count, network.config.d)).astype(np.float32),
            statistics=np.stack([shown, chosen, 2 * chosen], axis=1).astype(np.float32),
            neighbours=self._hashes[rng.integers(0, count, (count, _NEIGHBOURS))],
            strengths=rng.random((count, _NEIGHBOURS)).astype(np.float32),
            text=rng.normal(0, 0.1, empty.text.shape).astype(np.float32),
        )


def item_vectors(items: Sequence[str]) -> Iterator[ItemVector]:
    """A text vector of length 1 for each item, drawn at random."""
    rng = np.random.default_rng(0)
    for item in items:
        vector = rng.normal(size=ENCODER_WIDTH)
        vector /= np.linalg.norm(vector)
        yield ItemVector(item_id=item, encoder=ENCODER, text_hash="0" * 16, vector=vector.astype("<f2").tobytes())


def bench_people(prefix: str, items: Sequence[str], count: int, candidates: int) -> list[SimulatedUser]:
    """So many users, `PREFIX-NUMBER`, with tastes of a few common factors, and lists of so many of the first items."""
    recall = PopularityRecall(Counter({item: len(items) - at for at, item in enumerate(items)}), candidates)
    rng = np.random.default_rng(1)
    people = rng.normal(size=(min(count, _TASTES), _FACTORS)) @ rng.normal(size=(_FACTORS, len(recall.films)))
    people *= _STRENGTH / np.sqrt(_FACTORS)
    drawn = [Taste(dict(zip(recall.films, line.tolist(), strict=True))) for line in people]
    return [SimulatedUser(f"{prefix}-{seed}", drawn[seed % len(drawn)], recall, seed) for seed in range(count)]


def past_views(user_id: str, count: int, items: Sequence[str], now: int) -> list[Interaction]:
    """So many views of a user's, a minute apart, the last one a minute before now."""
    random = Random(user_id)
    return [
        Interaction(
            user_id=user_id, item_id=random.choice(items), action="view", event_id=f"past-{number}",
            ts=now - (count - number) * 60_000,
        )
        for number in range(count)
    ]  # fmt: skip
