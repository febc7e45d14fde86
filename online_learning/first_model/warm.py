"""What a training takes over from an earlier version, of another schema or other sizes too, and what starts anew.

Item rows by item; dense weights of equal name and shape; of a layer that has a place for each feature, context number,
action or prediction, the places of equal name. What is new in them changes nothing at first: a new feature counts for
nothing, a new action is taken for a click where it is positive and for a view where not, as the starter does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from torch import Tensor

from online_learning.recipe import MODEL_SIZES, Recipe
from online_learning.releases.origins import read_origin
from online_learning.releases.versions import Origin
from ranker.contracts.schema import BUILT_IN_ACTIONS, FeatureSchema
from ranker.features.names import context_names, feature_names
from ranker.items.tables import STATISTICS, TableArrays
from ranker.network.transformer import ModelConfig, Ranker
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings

#: weight -> its axis whose places have names, and whose names those are; all others are taken as a whole.
_NAMED = {
    "features.weight": (0, "features"),
    "context.weight": (0, "context"),
    "encoder.action.weight": (0, "actions"),
    "relations.action.weight": (0, "actions"),
    "encoder.position.weight": (0, "places"),
    "outcomes.weight": (1, "predictions"),
    "outcomes.bias": (0, "predictions"),
    "match.weight": (1, "predictions"),
}
_TEXT_PARTS = ("text", "reduction", "reduction_mean")


class TakenOver(Struct, frozen=True, kw_only=True):
    """What a training began with, for the manifest and for a person."""

    version: str
    items: int  # whose rows were taken over
    weights: int  # dense weights that were, as a whole or in part
    anew: tuple[str, ...]  # what starts anew

    @property
    def words(self) -> str:
        """One sentence."""
        began = f"{self.items} item rows and {self.weights} weights are those of {self.version}"
        return f"{began}; anew: {'; '.join(self.anew)}" if self.anew else f"{began}; nothing starts anew"


def open_version(registry: RegistrySettings, version: str) -> Origin:
    """A version of the registry, checked.

    Raises:
        BundleError: it is missing or broken.
    """
    with tempfile.TemporaryDirectory(prefix="liverank-warm-") as folder:
        return read_origin(fetch_bundle(registry, version, Path(folder)))


def recipe_like(origin: Origin) -> Recipe:
    """How to train a version like another one: its recipe, its sizes, as many co-visited items."""
    config = origin.config.to_dict()
    sizes = {name: config[name] for name in MODEL_SIZES}
    neighbours = origin.tables.neighbours.shape[1]
    return msgspec.structs.replace(origin.recipe, sizes=sizes, neighbours=neighbours)


def warm_tables(origin: Origin | None, fresh: TableArrays, encoder: str) -> TableArrays:
    """Fresh tables, with the rows of a version that fit. What was counted starts anew: the log counts it again."""
    if origin is None or origin.tables.ids.shape[1] != fresh.ids.shape[1]:
        return fresh
    known = origin.tables
    count, neighbours = len(known.items), fresh.neighbours.shape[1]
    taken = {"categories": known.categories} if known.categories.shape == fresh.categories.shape else {}
    if _same_texts(origin, fresh, encoder):
        taken |= {name: getattr(known, name) for name in _TEXT_PARTS}
    return msgspec.structs.replace(
        fresh,
        items=known.items,
        ids=known.ids,
        statistics=np.zeros((count, len(STATISTICS)), np.float32),
        neighbours=np.zeros((count, neighbours), np.int64),
        strengths=np.zeros((count, neighbours), np.float32),
        **taken,
    )


def warm_weights(origin: Origin, model: Ranker, schema: FeatureSchema, tables: TableArrays) -> TakenOver:
    """Put what fits of a version into a new model.

    Args:
        origin: the version.
        model: of the new schema and sizes; changed in place.
        schema: the new one.
        tables: as `warm_tables` gave them, to tell of.
    """
    new, old = _names(schema, model.config), _names(origin.schema, origin.config)
    weights, anew, taken = model.state_dict(), [*_anew_of_tables(origin, tables)], 0
    for name, fresh in weights.items():
        known = origin.weights.get(name)
        placed = None if known is None else _placed(name, fresh, known, new, old, schema)
        if placed is None:
            anew.append(f"the weight {name}")
        else:
            weights[name] = placed
            taken += 1
    model.load_state_dict(weights)
    for kind in new:
        added = [str(one) for one in new[kind] if one not in old[kind]]
        if added and kind != "places":
            anew.append(f"{kind}: {', '.join(added)}")
    return TakenOver(version=origin.version, items=len(tables.items), weights=taken, anew=tuple(anew))


def _names(schema: FeatureSchema, config: ModelConfig) -> dict[str, Sequence[object]]:
    return {
        "features": feature_names(schema),
        "context": context_names(schema),
        "actions": schema.action_names,
        "predictions": tuple(action.name for action in schema.positives),
        "places": range(config.window),
    }


def _placed(
    name: str,
    fresh: Tensor,
    known: Tensor,
    new: dict[str, Sequence[object]],
    old: dict[str, Sequence[object]],
    schema: FeatureSchema,
) -> Tensor | None:
    """The weight with what fits of the known one; None where it has another shape."""
    if name not in _NAMED:
        return known.clone() if known.shape == fresh.shape else None
    axis, kind = _NAMED[name]
    # A prediction has one column of some weights, and d of others.
    here, there = (_by_name(weight, axis, len(names[kind])) for weight, names in ((fresh, new), (known, old)))
    if here.shape[1:] != there.shape[1:]:
        return None
    at = {one: place for place, one in enumerate(old[kind])}
    for place, one in enumerate(new[kind]):
        source = at.get(one, at.get(_stands_for(kind, one, schema)))
        here[place] = 0 if source is None else there[source]
    return here.movedim(0, axis).reshape(fresh.shape)


def _by_name(weight: Tensor, axis: int, count: int) -> Tensor:
    """A copy with the named places first: [names, n], or of [rows, names * n] as [names, rows, n]."""
    if axis == 0:
        return weight.clone()
    return weight.reshape(len(weight), count, -1).movedim(1, 0).clone()


def _stands_for(kind: str, name: object, schema: FeatureSchema) -> object:
    """The known action that a new one is taken for; nothing where it is no action."""
    view, click = BUILT_IN_ACTIONS
    if kind == "predictions":
        return click
    if kind == "actions":
        return click if name in [action.name for action in schema.positives] else view
    return None


def _same_texts(origin: Origin, fresh: TableArrays, encoder: str) -> bool:
    shapes = all(getattr(origin.tables, name).shape == getattr(fresh, name).shape for name in _TEXT_PARTS)
    return origin.encoder == encoder and shapes


def _anew_of_tables(origin: Origin, tables: TableArrays) -> list[str]:
    if len(origin.tables.items) and not len(tables.items):
        return ["item rows, of another width"]
    found = []
    if tables.reduction is not origin.tables.reduction:
        found.append("what texts say, by another encoder or width")
    if tables.categories is not origin.tables.categories:
        found.append("categories")
    return found
