"""`liverank evaluate`: a model of the registry, or one trained for the occasion, on a log's lists."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from liverank.offline import open_bundle
from online_learning.datasets import DataSet
from online_learning.evaluate import evaluate, queries
from online_learning.fit import Progress, Report, fit
from online_learning.peers import LIST_PEERS
from ranker.bundle import read_manifest
from ranker.catalog import Catalog
from ranker.serving import load
from ranker.settings import Settings


def evaluate_lists(
    data: DataSet,
    path: Path,
    settings: Settings,
    train_until: int | None,
    window: tuple[int | None, int | None],
    report: Report,
) -> dict[str, Any]:
    """Metrics of liverank, the shown order and recently touched first, on the lists clicked within a window.

    Args:
        data: the reader.
        path: its file.
        settings: the registry whose newest bundle serves; unused where a model is trained.
        train_until: train on what is before, into a registry that is thrown away; None: serve the registry's.
        window: first and end time of the clicks, milliseconds; None: no limit.
        report: called with how far it is.
    """
    with TemporaryDirectory(prefix="liverank-evaluate-") as temporary:
        settings = msgspec.structs.replace(settings, data=Path(temporary) / "data")
        if train_until is not None:
            settings = msgspec.structs.replace(settings, registry=f"{temporary}/registry")
            fit(data, path, settings.registry, model=settings.model, until=train_until, report=report)
        folder = open_bundle(settings)
        model = load(folder, Catalog(read_manifest(folder).schema.item_numeric), settings)
        asked = queries(data.records(path), model.schema, *window)
        n, rankers = evaluate(asked, model, LIST_PEERS, lambda done: report(Progress("lists", done, 0)))
        return {"n": n, "model_version": model.version, "rankers": rankers}
