"""What a list is to the model whatever the user does: computed once a list. Pure, the same in serving and training."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from ranker.contracts.schema import FeatureSchema, Normalise
from ranker.items.catalog import Catalog
from ranker.state.row import CurrentList, UserRow

#: Numbers beyond it are cut before features are made of them. Far above any that means something, and far below what
#: would leave float32 in a list's deviation, or in the squares and products within the network.
_LARGEST = 1e13
_ARRAY, _PLACE = 120, 50  # bytes of an array's own, and of an entry of a dictionary


def cut(values: np.ndarray) -> np.ndarray:
    """Numbers as people give them, so that features stay finite; NaN stays NaN, and what is not extreme as it is."""
    within: np.ndarray = np.clip(values, -_LARGEST, _LARGEST)
    return within


class ListInputs(Struct, frozen=True):
    """What a list is to the model whatever the user does: computed once a list."""

    indexes: np.ndarray  # int64 [C] in the catalogue
    items: np.ndarray  # int64 [C] hashes of item ids
    place: dict[int, int]  # hash -> position
    places: np.ndarray  # float32 [C, 3] the positions as features
    given: np.ndarray  # float32 [C, columns of the features declared by the schema]
    logs: np.ndarray  # float32 [C, features declared by the schema], their logarithms, 0 where missing
    context: np.ndarray  # float32 [context fields of the schema]


def inputs_bytes(inputs: ListInputs) -> int:
    """About what they take in memory, but for the hashes, which are the list's."""
    arrays = (inputs.indexes, inputs.places, inputs.given, inputs.logs, inputs.context)
    return sum(_ARRAY + array.nbytes for array in arrays) + _PLACE * len(inputs.place)


def list_inputs(row: UserRow, catalog: Catalog, schema: FeatureSchema) -> ListInputs:
    """What the row's current list is to the model whatever the user does next."""
    current = row.candidates
    assert current is not None
    hashes = current.hashes.tolist()
    index_of, position = catalog.index_of, np.arange(len(hashes), dtype=np.float32)
    return ListInputs(
        indexes=np.array([index_of.get(item, 0) for item in hashes], np.int64),
        items=current.hashes,
        place={item: at for at, item in enumerate(hashes)},
        places=np.stack([1 / (1 + position), np.log1p(position) / 3, position / len(hashes)], axis=1),
        given=_given_features(current, schema),
        logs=_logarithms(current, schema),
        context=_context(row, schema),
    )


def _logarithms(current: CurrentList, schema: FeatureSchema) -> np.ndarray:
    logs = np.zeros((len(current.item_ids), len(schema.candidate_features)), np.float32)
    for at, feature in enumerate(schema.candidate_features):
        raw = current.column(feature.name)
        if raw is not None:
            logs[:, at] = np.nan_to_num(_normalised(cut(raw), Normalise.LOG))
    return logs


def _given_features(current: CurrentList, schema: FeatureSchema) -> np.ndarray:
    """float32 [C, declared]: each declared feature in each declared normal form, then whether it is missing."""
    columns: list[np.ndarray] = []
    for feature in schema.candidate_features:
        raw = current.column(feature.name)
        values = np.full(len(current.item_ids), np.nan, np.float32) if raw is None else cut(raw)
        missing = ~np.isfinite(values)
        columns += [np.where(missing, 0.0, _normalised(values, way)) for way in feature.normalise]
        columns.append(missing)
    if not columns:
        return np.zeros((len(current.item_ids), 0), np.float32)
    return np.stack(columns, axis=1).astype(np.float32)


def _normalised(values: np.ndarray, way: Normalise) -> np.ndarray:
    """float32 [C] in the normal form; NaN where a value is missing. Missing ones take no part in a list's figures."""
    if way in (Normalise.LOG, Normalise.LIST_LOG, Normalise.LIST_FLOOR):
        values = np.sign(values) * np.log1p(np.abs(values))
    known = values[np.isfinite(values)]
    if way in (Normalise.NONE, Normalise.LOG) or not len(known):
        return values
    if way is Normalise.LIST_FLOOR:
        above: np.ndarray = values - known.min()
        return above
    if way is Normalise.LIST_RANK:
        below = np.searchsorted(np.sort(known), values, side="left")
        return np.where(np.isfinite(values), below / max(len(known) - 1, 1), np.nan)
    scaled: np.ndarray = (values - known.mean()) / (known.std() + 0.05)
    return scaled.clip(-3, 3)


def _context(row: UserRow, schema: FeatureSchema) -> np.ndarray:
    assert row.candidates is not None
    known = {**row.attributes, **row.candidates.context}
    numbers: list[float] = []
    for field in schema.context:
        value = known.get(field.name)
        if field.values:
            numbers += [float(is_value(value, one)) for one in field.values]
        else:
            number = _number(value)
            numbers.append(math.copysign(math.log1p(abs(number)), number))
    return np.array(numbers, np.float32)


def is_value(value: object, declared: str) -> bool:
    """Whether a field holds a declared value, which is a text: 1 and 1.0 are "1", true is "true"."""
    if isinstance(value, bool):
        return declared.lower() in (str(value).lower(), str(int(value)))
    return value == declared or (isinstance(value, int | float) and _number(declared, math.nan) == value)


def _number(value: object, otherwise: float = 0.0) -> float:
    """A finite number, also where it is a text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else otherwise
    except ValueError:
        return otherwise
    return number if math.isfinite(number) else otherwise
