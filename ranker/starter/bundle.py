"""The starter as an ordinary bundle: made at once, the same from every worker, and found by whoever comes second."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ranker.contracts.bundle_files import EXTEND, GOLDEN, GRAPHS, SCORE, TABLES
from ranker.contracts.errors import BundleError
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import WORD_FEATURES, context_names, feature_names
from ranker.items.tables import STATISTICS, TableArrays
from ranker.registry.bundle import Manifest, publish_bundle, registry_versions
from ranker.serving.options import ServingOptions
from ranker.serving.scorer import open_graphs
from ranker.starter.skeleton import with_initializers
from ranker.starter.weights import starter_config, starter_parts, starter_weights

#: Before any version that was trained; see `ranker.registry.bundle.new_version`.
STARTER_CREATED = datetime(2000, 1, 1, tzinfo=UTC)
#: The encoder whose vectors it reads: `minilm` as `online_learning.first_model.encoders` publishes it, its width, and
#: the random signs that reduce it (D. Achlioptas, "Database-friendly random projections", 2003), the same everywhere.
STARTER_ENCODER, _ENCODER_DIM = "minilm-f87529e1", 384
#: Co-visited items kept for each item, and rows for categories.
STARTER_NEIGHBOURS, _CATEGORY_ROWS = 16, 256


def starter_version(schema: FeatureSchema) -> str:
    """The name of a schema's starter: an early time, and a hash of the schema and of what the package carries."""
    digest = hashlib.sha256(f"{schema.full_hash} {starter_parts().digest}".encode()).hexdigest()
    return f"{STARTER_CREATED:%Y%m%dT%H%M%S}000-{digest[:6]}"


def is_starter(version: str) -> bool:
    """Whether a version's name is that of a starter, of whatever schema and release."""
    return version.startswith(f"{STARTER_CREATED:%Y%m%dT%H%M%S}000-")


def publish_starter(schema: FeatureSchema, registry: str, model: str = "default") -> str:
    """Put a schema's starter into a registry; its version. Where it is there already, that is the one.

    Args:
        schema: what it is to rank by.
        registry: a folder or an fsspec address.
        model: the model's name in the registry.

    Raises:
        BundleError: the registry cannot be read or written.
    """
    version = starter_version(schema)
    if version in registry_versions(registry, model):
        return version
    with tempfile.TemporaryDirectory(prefix="liverank-starter-") as temporary:
        folder = Path(temporary)
        write_starter(schema, folder)
        try:
            publish_bundle(folder, _manifest(schema, model, version), registry)
        except BundleError:
            if version not in registry_versions(registry, model):  # else another worker was quicker
                raise
    return version


def write_starter(schema: FeatureSchema, folder: Path) -> None:
    """Write every file of a schema's starter but its manifest into a folder."""
    parts, weights = starter_parts(), starter_weights(schema)
    for graph, name in GRAPHS.items():
        wanted = {weight: weights[weight] for weight in parts.names[graph]}
        (folder / name).write_bytes(with_initializers(parts.skeletons[graph], wanted))
    starter_tables(parts.config).save(folder / TABLES)
    _write_golden(starter_config(schema), folder)


def starter_tables(config: dict[str, Any]) -> TableArrays:
    """Tables that know no item. Texts are reduced by signs drawn at random, which nearly keeps their angles."""
    d, t = config["d"], config["text_dim"]
    signs = np.random.RandomState(0).randint(0, 2, (_ENCODER_DIM, t)) * 2 - 1  # its stream is the same in every numpy
    return TableArrays(
        items=np.zeros(0, np.int64),
        ids=np.zeros((0, d), np.float32),
        statistics=np.zeros((0, len(STATISTICS)), np.float32),
        neighbours=np.zeros((0, STARTER_NEIGHBOURS), np.int64),
        strengths=np.zeros((0, STARTER_NEIGHBOURS), np.float32),
        categories=np.zeros((_CATEGORY_ROWS, d), np.float32),
        text=np.zeros((t, d), np.float32),
        reduction=(signs / np.sqrt(t)).astype(np.float32),
        reduction_mean=np.zeros(_ENCODER_DIM, np.float32),
    )


def _manifest(schema: FeatureSchema, model: str, version: str) -> Manifest:
    return Manifest(
        model=model,
        version=version,
        created=round(STARTER_CREATED.timestamp() * 1000),
        config=starter_config(schema),
        schema=schema,
        schema_hash=schema.full_hash,
        features=feature_names(schema),
        context=context_names(schema),
        words=WORD_FEATURES,
        encoder=STARTER_ENCODER,
    )


def _write_golden(config: dict[str, Any], folder: Path) -> None:
    """Inputs of both graphs and what they make of them here. That torch makes the same of them a test proves."""
    graphs = open_graphs(folder, ServingOptions(provider="cpu"))
    arrays: dict[str, np.ndarray] = {}
    for graph, given in _golden_inputs(config).items():
        session = getattr(graphs, graph)
        names = [output.name for output in session.get_outputs()]
        found = session.run(names, {one.name: given[one.name] for one in session.get_inputs()})
        arrays |= {f"{graph}/in/{name}": value for name, value in given.items()}
        arrays |= {f"{graph}/out/{name}": value for name, value in zip(names, found, strict=True)}
    np.savez(folder / GOLDEN, **arrays)  # type: ignore[arg-type]  # numpy's stub takes its flag for one of the arrays


def _golden_inputs(config: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Random inputs with ragged lengths, by graph and name, as `ranker.network.export.example_inputs` draws them."""
    rng = np.random.RandomState(0)
    b, n, p, c, d, t = 2, 6, 5, 7, config["d"], config["text_dim"]

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    def below(top: int, *shape: int) -> np.ndarray:
        return rng.randint(0, top, shape).astype(np.int64)

    def unit(*shape: int) -> np.ndarray:
        drawn = normal(*shape)
        scaled: np.ndarray = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
        return scaled

    actions, layers = config["n_actions"], config["layers"]
    return {
        EXTEND: {
            "item_vec": normal(b, n, d), "action": below(actions, b, n), "gap": np.abs(normal(b, n)),
            "value": normal(b, n), "past_k": normal(b, layers, p, d), "past_v": normal(b, layers, p, d),
            "past_len": below(p + 1, b), "n_len": 1 + below(n, b),
        },
        SCORE: {
            "cand_vec": normal(b, c, d), "cand_feat": normal(b, c, config["n_features"]), "cand_item": below(9, b, c),
            "cand_cat": below(5, b, c), "cand_pos": np.arange(c)[None].repeat(b, axis=0), "cand_text": unit(b, c, t),
            "cand_len": 1 + below(c, b), "covisit": np.abs(normal(b, c, n)), "context": normal(b, config["n_context"]),
            "h": normal(b, n, d), "hist_action": below(actions, b, n), "hist_age": np.abs(3 * normal(b, n)),
            "hist_item": below(9, b, n), "hist_cat": below(5, b, n), "hist_pos": below(c + 1, b, n) - 1,
            "hist_text": unit(b, n, t), "hist_len": below(n + 1, b),
            "said": normal(b, c, 3), "words": np.abs(normal(b, 3, len(WORD_FEATURES))),
        },
    }  # fmt: skip
