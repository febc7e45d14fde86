"""From a user's row to the numbers that the graphs read: pure, one user at a time, the same in serving and training."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from ranker.contracts.ids import hash_id
from ranker.contracts.schema import FeatureSchema, Normalise
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.row import EVENT, SUMMARY_CELLS, CurrentList, UserRow

_DAY_MS = 86_400_000.0
#: Features that every candidate has, before the schema's own.
BUILT_IN = (
    "reciprocal_position", "log_position", "relative_position", "log_shown", "log_chosen", "log_touched",
    "choice_rate", "touch_rate", "long_term", "log_age_days", "has_age",
)  # fmt: skip
#: How far a declared feature is from that of the list's items which the user touched: the last, and their mean.
FROM_TOUCHED = ("from-last", "off-last", "from-mean", "off-mean")
#: Numbers about the user and the moment, before the schema's context fields.
MOMENT = ("log_events", "log_idle_seconds", "log_list_length", "last_in_list", "share_touched", "log_since_positive")


class ListInputs(Struct, frozen=True):
    """What a list is to the model whatever the user does: computed once a list."""

    indexes: np.ndarray  # int64 [C] in the catalogue
    items: np.ndarray  # int64 [C] hashes of item ids
    place: dict[int, int]  # hash -> position
    places: np.ndarray  # float32 [C, 3] the positions as features
    given: np.ndarray  # float32 [C, columns of the features declared by the schema]
    logs: np.ndarray  # float32 [C, features declared by the schema], their logarithms, 0 where missing
    context: np.ndarray  # float32 [context fields of the schema]


class UserInputs(Struct, frozen=True):
    """One user's inputs, not padded. L visible events, oldest first; C candidates in the order shown."""

    events: bytes  # the visible events as stored: what a cached encoding is compared with
    history: np.ndarray  # int64 [L] catalogue indexes
    hist_item: np.ndarray  # int64 [L] hashes
    action: np.ndarray  # int64 [L]
    gap: np.ndarray  # float32 [L]
    value: np.ndarray  # float32 [L]
    age: np.ndarray  # float32 [L]
    hist_pos: np.ndarray  # int64 [L]
    candidates: np.ndarray  # int64 [C] catalogue indexes
    cand_item: np.ndarray  # int64 [C] hashes
    features: np.ndarray  # float32 [C, F]
    covisit: np.ndarray  # float32 [C, L]
    context: np.ndarray  # float32 [U]


def feature_names(schema: FeatureSchema) -> tuple[str, ...]:
    """Names of the candidate features, in order: their number is the model's F."""
    declared = [f"{f.name}:{way}" for f in schema.candidate_features for way in (*f.normalise, "missing")]
    touched = [f"{f.name}:{form}" for f in schema.candidate_features for form in FROM_TOUCHED]
    return (*BUILT_IN, *declared, *touched, *(f"item:{name}" for name in schema.item_numeric))


def context_names(schema: FeatureSchema) -> tuple[str, ...]:
    """Names of the context numbers, in order: their number is the model's U."""
    declared = [f"{c.name}={value}" for c in schema.context for value in (c.values or ("number",))]
    return (*MOMENT, *declared)


def list_inputs(row: UserRow, catalog: Catalog, schema: FeatureSchema) -> ListInputs:
    """What the row's current list is to the model whatever the user does next."""
    current = row.candidates
    assert current is not None
    hashes = [hash_id(item_id) for item_id in current.item_ids]
    index_of, position = catalog.index_of, np.arange(len(hashes), dtype=np.float32)
    return ListInputs(
        indexes=np.array([index_of.get(item, 0) for item in hashes], np.int64),
        items=np.array(hashes, np.int64),
        place={item: at for at, item in enumerate(hashes)},
        places=np.stack([1 / (1 + position), np.log1p(position) / 3, position / len(hashes)], axis=1),
        given=_given_features(current, schema),
        logs=_logarithms(current, schema),
        context=_context(row, schema),
    )


def user_inputs(
    row: UserRow,
    listed: ListInputs,
    tables: ItemTables,
    schema: FeatureSchema,
    statistics: np.ndarray | None = None,
) -> UserInputs:
    """All that the graphs read for one user.

    Args:
        row: the state; it has a current list.
        listed: `list_inputs` of that row.
        tables: item rows.
        schema: the model's.
        statistics: float32 [C, len(STATISTICS)] as they were when the list was ranked; the tables' where None.
    """
    if statistics is None:
        statistics = tables.statistics[listed.indexes]
    visible = row.visible(schema.window)
    events = np.frombuffer(visible, EVENT)
    index_of = tables.catalog.index_of
    hist_item = events["item"].astype(np.int64)
    items = hist_item.tolist()
    history = np.array([index_of.get(item, 0) for item in items], np.int64)
    seconds = events["ts"] / 1000.0
    hist_pos = np.array([listed.place.get(item, -1) for item in items], np.int64)
    gap = np.zeros(len(events), np.float32)
    gap[1:] = np.log1p(np.diff(seconds))
    return UserInputs(
        events=visible,
        history=history,
        hist_item=hist_item,
        action=events["action"].astype(np.int64),
        gap=gap,
        value=np.where(np.isfinite(events["value"]), events["value"], 0),
        age=np.log1p(np.maximum(row.now / 1000.0 - seconds, 0.0)).astype(np.float32),
        hist_pos=hist_pos,
        candidates=listed.indexes,
        cand_item=listed.items,
        features=_candidate_features(row, listed, tables.catalog, statistics, hist_pos),
        covisit=tables.covisits(history, listed.items),
        context=np.concatenate([_moment(row, events, hist_pos, schema), listed.context]).astype(np.float32),
    )


def _moment(row: UserRow, events: np.ndarray, hist_pos: np.ndarray, schema: FeatureSchema) -> list[float]:
    assert row.candidates is not None
    length = len(row.candidates.item_ids)
    idle, last, since = 0.0, 0.0, len(events)
    if len(events):
        idle = max((row.now - int(events["ts"][-1])) / 1000.0, 0.0)
        last = 1.0 if hist_pos[-1] >= 0 else -1.0
        positive = np.flatnonzero(schema.positive_numbers[events["action"]])
        since = len(events) - 1 - int(positive[-1]) if len(positive) else schema.window
    return [
        math.log1p(row.count) / 4,
        math.log1p(idle) / 5,
        math.log1p(length) / 5,
        last,
        len(set(hist_pos[hist_pos >= 0].tolist())) / length,
        math.log1p(since) / 4,
    ]


def _candidate_features(
    row: UserRow, listed: ListInputs, catalog: Catalog, statistics: np.ndarray, hist_pos: np.ndarray
) -> np.ndarray:
    indexes, given = listed.indexes, listed.given.shape[1]
    shown, chosen, touched = statistics.T
    published = catalog.published[indexes]
    numeric, touched_columns = catalog.numeric[indexes], len(FROM_TOUCHED) * listed.logs.shape[1]
    features = np.empty((len(indexes), len(BUILT_IN) + given + touched_columns + numeric.shape[1]), np.float32)
    features[:, :3] = listed.places
    features[:, 3:6] = np.log1p(statistics) / (5, 3, 5)
    features[:, 6] = np.log((chosen + 0.5) / (shown + 12.5)) + 3.2
    features[:, 7] = np.log((touched + 1) / (shown + 5)) + 1.6
    features[:, 8] = np.log1p(row.long_term()[listed.items % SUMMARY_CELLS])
    features[:, 9] = np.where(published > 0, np.log1p(np.maximum(row.now - published, 0) / _DAY_MS) / 5, 0)
    features[:, 10] = published > 0
    rest = features[:, len(BUILT_IN) :]
    rest[:, :given] = listed.given
    _from_touched(listed.logs, hist_pos, rest[:, given : given + touched_columns])
    if numeric.size:
        rest[:, -numeric.shape[1] :] = np.nan_to_num(np.sign(numeric) * np.log1p(np.abs(numeric)))
    return features


def _from_touched(logs: np.ndarray, hist_pos: np.ndarray, out: np.ndarray) -> None:
    """For each declared feature the columns of FROM_TOUCHED, in log units, cut at 2: into float32 [C, 4 * declared]."""
    touched = hist_pos[hist_pos >= 0]
    out[:] = 0
    if not len(touched) or not logs.size:
        return
    last, mean = logs[touched[-1]], logs[np.unique(touched)].mean(axis=0)
    for at, reference in ((0, last), (2, mean)):
        distance = np.clip(logs - reference, -2, 2)
        out[:, at :: len(FROM_TOUCHED)] = distance
        out[:, at + 1 :: len(FROM_TOUCHED)] = np.abs(distance)


def _logarithms(current: CurrentList, schema: FeatureSchema) -> np.ndarray:
    logs = np.zeros((len(current.item_ids), len(schema.candidate_features)), np.float32)
    for at, feature in enumerate(schema.candidate_features):
        raw = current.column(feature.name)
        if raw is not None:
            logs[:, at] = np.nan_to_num(_normalised(raw, Normalise.LOG))
    return logs


def _given_features(current: CurrentList, schema: FeatureSchema) -> np.ndarray:
    """float32 [C, declared]: each declared feature in each declared normal form, then whether it is missing."""
    columns: list[np.ndarray] = []
    for feature in schema.candidate_features:
        raw = current.column(feature.name)
        values = np.full(len(current.item_ids), np.nan, np.float32) if raw is None else raw
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
            numbers += [float(str(value) == one) for one in field.values]
        else:
            number = float(value) if isinstance(value, int | float) else 0.0
            numbers.append(math.copysign(math.log1p(abs(number)), number))
    return np.array(numbers, np.float32)
