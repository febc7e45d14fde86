"""The starter's weights: those that mean the same in every catalogue from the package, all others from zero.

What is known beforehand: that the order shown counts, and how much an event says of a candidate by how the two are
related (the same item, beside it in the list, the same category, a similar text, how long ago). What only data can
tell, such as the features that a schema declares, starts at zero and is learned.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from safetensors import safe_open

from ranker.contracts.bundle_files import EXTEND, GRAPHS, SCORE
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import BUILT_IN, MOMENT, context_names, feature_names

DATA = Path(__file__).parent / "data"
WEIGHTS = "weights.safetensors"
#: What the graphs' two constants that depend on the schema are called in the skeletons.
TASTE_SHAPE, LAST_PLACE = "sizes.taste", "sizes.last_place"


class StarterParts(Struct, frozen=True):
    """What the package carries."""

    config: dict[str, Any]  # sizes of the Transformer, for the default schema
    weights: dict[str, np.ndarray]  # float32, by the names of `Ranker.state_dict()`, for the default schema
    skeletons: dict[str, bytes]  # graph -> ONNX file without initialisers
    names: dict[str, list[str]]  # graph -> the initialisers that it wants
    digest: str  # sha256 over all files


@cache
def starter_parts() -> StarterParts:
    """What the package carries, read once."""
    files = {name: (DATA / name).read_bytes() for name in (WEIGHTS, *GRAPHS.values())}
    digest = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files)))
    with safe_open(DATA / WEIGHTS, "numpy") as opened:
        about = opened.metadata()
        weights = {name: opened.get_tensor(name).astype(np.float32) for name in opened.keys()}  # noqa: SIM118
    return StarterParts(
        config=json.loads(about["config"]),
        weights=weights,
        skeletons={graph: files[GRAPHS[graph]] for graph in (EXTEND, SCORE)},
        names={graph: json.loads(about[graph]) for graph in (EXTEND, SCORE)},
        digest=digest.hexdigest(),
    )


def starter_config(schema: FeatureSchema) -> dict[str, Any]:
    """The Transformer's sizes for a schema."""
    return starter_parts().config | {
        "n_actions": len(schema.actions),
        "n_features": len(feature_names(schema)),
        "n_context": len(context_names(schema)),
        "n_outcomes": len(schema.positives),
        "window": schema.window,
    }


def starter_weights(schema: FeatureSchema) -> dict[str, np.ndarray]:
    """Every initialiser of both graphs for a schema.

    A positive action is taken for a click and any other for a view, as events and as what is predicted.
    """
    known, config = starter_parts().weights, starter_config(schema)
    d, heads = config["d"], config["n_outcomes"]
    as_click = np.array([int(action.positive) for action in schema.actions])
    return known | {
        "features.weight": _below(known["features.weight"], len(BUILT_IN), config["n_features"]),
        "context.weight": _below(known["context.weight"], len(MOMENT), config["n_context"]),
        "encoder.action.weight": known["encoder.action.weight"][as_click],
        "relations.action.weight": known["relations.action.weight"][as_click],
        "encoder.position.weight": np.zeros((schema.window, d), np.float32),
        "outcomes.weight": known["outcomes.weight"].repeat(heads, axis=1),
        "outcomes.bias": known["outcomes.bias"].repeat(heads),
        "match.weight": np.zeros((d, heads * d), np.float32),
        TASTE_SHAPE: np.array([-1, heads, d], np.int64),
        LAST_PLACE: np.array(schema.window - 1, np.int64),
    }


def _below(known: np.ndarray, rows: int, wanted: int) -> np.ndarray:
    """float32 [wanted, width]: the first rows as they are known, zeros for what the schema declares."""
    out = np.zeros((wanted, known.shape[1]), np.float32)
    out[:rows] = known
    return out
