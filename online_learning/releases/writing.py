"""From a torch model and its tables to a bundle in the registry."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct

from online_learning.recipe import Recipe
from ranker.contracts.bundle_files import EXTEND, GOLDEN, GRAPHS, SCORE, TABLES
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import WORD_FEATURES, context_names, feature_names
from ranker.items.tables import TableArrays
from ranker.network.export import ExtendGraph, ScoreGraph, example_inputs, export, replace_weights
from ranker.network.transformer import Ranker
from ranker.registry.bundle import Manifest, publish_bundle

#: The metric that every version of a trainer has: examples of the stream that it had learned from.
MADE_BY_TRAINER = "trained"


class Provenance(Struct, frozen=True, kw_only=True):
    """What a bundle's manifest says beside the model itself."""

    model: str
    schema: FeatureSchema
    encoder: str
    created: int
    version: str
    parent: str | None = None
    learned_until: int = 0
    offsets: dict[str, int] = {}
    since_starter: int | None = None
    metrics: dict[str, float] = {}
    recipe: Recipe | None = None  # how it was trained, where that is known
    warm_from: dict[str, Any] = {}  # what was taken over from another version


def publish_model(
    model: Ranker, tables: TableArrays, about: Provenance, registry: str, graphs: Path | None = None
) -> tuple[str, str]:
    """Write a bundle and put it into the registry.

    Args:
        model: the dense weights.
        tables: the item rows.
        about: the rest of the manifest.
        registry: a folder or an fsspec address.
        graphs: a folder with graphs of the same model config, whose weights are replaced; milliseconds, where an
            export takes seconds. Exported anew where None, and kept there where the folder is empty.

    Returns:
        The bundle's address, and the sha256 of its manifest.
    """
    with tempfile.TemporaryDirectory(prefix="liverank-bundle-") as temporary:
        folder = Path(temporary)
        write_files(model, tables, folder, graphs)
        return publish_bundle(folder, manifest_of(model, about), registry)


def write_files(model: Ranker, tables: TableArrays, folder: Path, graphs: Path | None = None) -> None:
    """Write every file of a bundle but its manifest into a folder; `graphs` as for `publish_model`."""
    _write_graphs(model, folder, graphs)
    tables.save(folder / TABLES)
    _write_golden(model, folder / GOLDEN)


def manifest_of(model: Ranker, about: Provenance) -> Manifest:
    """The manifest of a bundle whose files are still to be hashed."""
    return Manifest(
        model=about.model,
        version=about.version,
        parent=about.parent,
        created=about.created,
        config=model.config.to_dict(),
        schema=about.schema,
        schema_hash=about.schema.full_hash,
        features=feature_names(about.schema),
        context=context_names(about.schema),
        words=WORD_FEATURES,
        encoder=about.encoder,
        learned_until=about.learned_until,
        offsets=about.offsets,
        since_starter=about.since_starter,
        metrics=about.metrics,
        recipe={} if about.recipe is None else msgspec.to_builtins(about.recipe),
        warm_from=about.warm_from,
    )


def _write_graphs(model: Ranker, folder: Path, graphs: Path | None) -> None:
    names = tuple(GRAPHS.values())
    if graphs is None:
        export(model, folder)
        return
    if not all((graphs / name).exists() for name in names):
        graphs.mkdir(parents=True, exist_ok=True)
        export(model, folder)
        for name in names:
            shutil.copyfile(folder / name, graphs / name)
        return
    for name in names:
        replace_weights(graphs / name, model.state_dict(), folder / name)


def _write_golden(model: Ranker, path: Path) -> None:
    """Inputs of both graphs and what torch makes of them: a worker compares before it serves."""
    was_training = model.training
    model.eval()
    extend, score = example_inputs(model.config, batch=2, events=6, cached=5, candidates=7)
    arrays: dict[str, np.ndarray] = {}
    with torch.no_grad():
        k, v, h = ExtendGraph(model)(*extend.values())
        logits = ScoreGraph(model)(*score.values())
    model.train(was_training)
    outputs = {EXTEND: {"k": k, "v": v, "h": h}, SCORE: {"logits": logits}}
    for graph, inputs in ((EXTEND, extend), (SCORE, score)):
        arrays |= {f"{graph}/in/{name}": value.numpy() for name, value in inputs.items()}
        arrays |= {f"{graph}/out/{name}": value.numpy() for name, value in outputs[graph].items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes its flag for one of the arrays
