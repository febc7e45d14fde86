"""A small bundle for tests: real graphs, tables and golden outputs, with random weights that use every input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from online_learning.releases.writing import Provenance, publish_model
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import context_names, feature_names
from ranker.items.tables import STATISTICS, TableArrays
from ranker.network.transformer import ModelConfig, Ranker
from ranker.registry.bundle import new_version

ENCODER = "tiny"
ENCODER_WIDTH = 24


def tiny_config(schema: FeatureSchema, **changes: object) -> ModelConfig:
    """A model of a few thousand weights for a schema."""
    sizes = {
        "n_actions": len(schema.actions), "n_features": len(feature_names(schema)),
        "n_context": len(context_names(schema)), "n_outcomes": len(schema.positives),
        "d": 16, "layers": 2, "heads": 2, "window": schema.window, "relation_dim": 8, "hidden": 16, "text_dim": 8,
    }  # fmt: skip
    return ModelConfig(**{**sizes, **changes})


def tiny_model(schema: FeatureSchema, seed: int = 0, **changes: object) -> Ranker:
    """Random weights, also where training would start from zero, so that every input moves every score."""
    torch.manual_seed(seed)
    model = Ranker(tiny_config(schema, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def tiny_tables(config: ModelConfig, items: list[str], seed: int = 0, neighbours: int = 4) -> TableArrays:
    """Random rows for these items, each with the next ones as its neighbours."""
    rng = np.random.default_rng(seed)
    hashes = np.array([hash_id(item) for item in items], np.int64)
    count = len(items)
    following = [(np.arange(count) + step) % max(count, 1) for step in range(1, neighbours + 1)]
    return TableArrays(
        items=hashes,
        ids=rng.normal(size=(count, config.d)).astype(np.float32),
        statistics=rng.integers(0, 50, (count, len(STATISTICS))).astype(np.float32),
        neighbours=np.stack([hashes[places] for places in following], axis=1).reshape(count, neighbours),
        strengths=rng.random((count, neighbours)).astype(np.float32),
        categories=np.concatenate([np.zeros((1, config.d)), rng.normal(size=(31, config.d))]).astype(np.float32),
        text=rng.normal(size=(config.text_dim, config.d)).astype(np.float32),
        reduction=rng.normal(size=(ENCODER_WIDTH, config.text_dim)).astype(np.float32),
        reduction_mean=np.zeros(ENCODER_WIDTH, np.float32),
    )


def tiny_bundle(
    registry: Path, schema: FeatureSchema | None = None, *, model: str = "default", seed: int = 0, items: int = 50
) -> str:
    """Publish a tiny bundle into a registry that knows the items `item-0`, `item-1` …; its version."""
    schema = schema or FeatureSchema()
    network = tiny_model(schema, seed)
    tables = tiny_tables(network.config, [f"item-{at}" for at in range(items)], seed)
    version = new_version(now_ms())
    about = Provenance(model=model, schema=schema, encoder=ENCODER, created=now_ms(), version=version)
    publish_model(network, tables, about, str(registry))
    return version
