"""Bundles for tests of the hot swap: good ones, and one of every kind that must never serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch

from online_learning.releases.writing import Provenance, publish_model
from ranker.contracts.clock import now_ms
from ranker.contracts.records import ModelUpdate
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import TableArrays
from ranker.network.transformer import Ranker
from ranker.registry.address import sha256
from ranker.registry.bundle import new_version
from ranker.rollout.stages import key_of
from tests.support.installation import Installation
from tests.support.tiny import ENCODER, tiny_model, tiny_tables

ITEMS = 50


def publish(
    installation: Installation,
    *,
    seed: int = 0,
    schema: FeatureSchema | None = None,
    change: Callable[[Ranker], None] = lambda model: None,
    change_tables: Callable[[TableArrays], TableArrays] = lambda tables: tables,
) -> str:
    """Put a bundle into the registry; its version."""
    network = tiny_model(schema or FeatureSchema(), seed)
    with torch.no_grad():
        change(network)
    tables = change_tables(tiny_tables(network.config, [f"item-{at}" for at in range(ITEMS)]))
    version = new_version(now_ms())
    about = Provenance(
        model=installation.settings.registry.model, schema=schema or FeatureSchema(), encoder=ENCODER, version=version,
        created=now_ms(),
    )  # fmt: skip
    graphs = installation.folder / "graphs" if schema is None else None
    publish_model(network, tables, about, installation.settings.registry.address, graphs)
    return version


def folder_of(installation: Installation, version: str) -> Path:
    """A bundle's folder in the registry."""
    return Path(installation.settings.registry.address) / installation.settings.registry.model / version


def announce(installation: Installation, version: str, stage: str = "promoted", **more: object) -> None:
    """Say on `model-updates` what is to become of a version."""
    manifest = folder_of(installation, version) / "manifest.json"
    digest = sha256(manifest) if manifest.exists() else "0" * 64
    update = msgspec.structs.replace(
        ModelUpdate(
            model=installation.settings.registry.model,
            version=version,
            sha256=digest,
            stage=stage,
            ts=now_ms(),
        ),
        **more,
    )
    installation.send("model-updates", key_of(update), msgspec.json.encode(update))


def flip(model: Ranker) -> None:
    """Turn every score around: what was best is worst."""
    for weight in (*model.outcomes.parameters(), *model.match.parameters()):
        weight.neg_()


def truncated(installation: Installation) -> tuple[str, str]:
    """A file ends early."""
    version = publish(installation)
    graph = folder_of(installation, version) / "score.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    return version, "changed"


def tampered(installation: Installation) -> tuple[str, str]:
    """A file and its hash in the manifest were both changed; the announcement knows the manifest."""
    version = publish(installation)
    manifest = folder_of(installation, version) / "manifest.json"
    digest = sha256(manifest)
    manifest.write_bytes(manifest.read_bytes().replace(b'"tiny"', b'"tony"'))
    announce(installation, version, sha256=digest)
    return version, "changed"


def of_another_schema(installation: Installation) -> tuple[str, str]:
    """It expects other inputs than this installation has: right only for a worker that starts anew."""
    return publish(installation, schema=FeatureSchema(half_life_hours=1.0)), "schema"


def not_finite(installation: Installation) -> tuple[str, str]:
    """Its weights give NaN."""

    def spoil(model: Ranker) -> None:
        next(model.outcomes.parameters()).fill_(float("nan"))

    return publish(installation, change=spoil), "not-finite"


def rows_not_finite(installation: Installation) -> tuple[str, str]:
    """The graphs are fine; a learned row is not."""

    def spoil(tables: TableArrays) -> TableArrays:
        ids = tables.ids.copy()
        ids[7] = np.nan
        return msgspec.structs.replace(tables, ids=ids)

    return publish(installation, change_tables=spoil), "not-finite"


def missing(installation: Installation) -> tuple[str, str]:
    """Announced, and not there."""
    return new_version(now_ms()), "missing"


BAD = [truncated, tampered, not_finite, rows_not_finite, missing]
