"""The starter on the demo's lists, where nobody comes back to a film: is the untouched order better left alone?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from liverank.demo.first_model import read_cinema
from liverank.simulate.tastes import tastes
from liverank.simulate.users import PopularityRecall, SimulatedUser, reciprocal_rank
from online_learning.data.log_fold import Fold
from online_learning.evaluation.metrics import summarise
from online_learning.first_model.encoders import publish_encoder
from online_learning.first_model.item_texts import vector_record
from ranker.contracts.records import CandidateList, Item
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog, item_text
from ranker.registry.encoder import load_encoder
from ranker.registry.settings import RegistrySettings
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.starter.bundle import publish_starter

_SECOND_MS = 1000
_START_MS = 1_700_000_000_000
_RECORDS_A_PERSON = 25


def starter_figures(path: Path, people: int) -> dict[str, Any]:
    """Mean reciprocal rank of the demo's clicks by the frozen starter and as shown, with intervals over people.

    Args:
        path: MovieLens-100K, a folder or a zip file.
        people: simulated ones.
    """
    cinema = read_cinema(path)
    recall = PopularityRecall(cinema.popularity)
    drawn = tastes(cinema.records, cinema.left_out, recall.films)
    with TemporaryDirectory(prefix="liverank-starter-") as registry:
        model = _starter(registry, [item for item in cinema.items if item.item_id in set(recall.films)])
        found = [
            (seed, *pair)
            for seed in range(people)
            for pair in _person(model, SimulatedUser(f"user-{seed}", drawn[seed % len(drawn)], recall, seed))
        ]
    person, starter, shown = np.array(found).T
    return {
        "clicks": len(found),
        "starter": summarise(starter, person)._asdict(),
        "shown": summarise(shown, person)._asdict(),
        "difference": summarise(starter - shown, person)._asdict(),
    }


def _starter(registry: str, items: list[Item]) -> ServingModel:
    """The starter over the films and their encoded titles."""
    name = publish_encoder(registry=registry)
    catalog, encoder = Catalog(), load_encoder(RegistrySettings(address=registry), name, Path(registry) / "cache")
    for item, vector in zip(items, encoder.encode([item_text(item) for item in items]), strict=True):
        catalog.put(item)
        catalog.put_vector(vector_record(item, vector, encoder.name))
    version = publish_starter(FeatureSchema(), registry)
    return load_model(Path(registry) / "default" / version, catalog, ServingOptions(provider="cpu"))


def _person(model: ServingModel, user: SimulatedUser) -> list[tuple[float, float]]:
    """Reciprocal ranks of one person's clicks, by the starter and as shown."""
    rows = Fold(model.schema)
    found: list[tuple[float, float]] = []
    for at in range(_RECORDS_A_PERSON):
        shown, clicked = user.shown, list(user.clicked)
        record = user.next_record(_START_MS + 3 * at * _SECOND_MS)
        row = rows.row(user.user_id)
        if not isinstance(record, CandidateList):
            ranked = model.rank([(user.user_id, row)])[0].item_ids
            chosen = record.item_id or ""
            found.append((reciprocal_rank(chosen, ranked, clicked), reciprocal_rank(chosen, shown, clicked)))
        rows.apply(record)
    return found
