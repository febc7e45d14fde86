"""From a user's row and list to the numbers that the graphs read: pure, one user at a time, in serving and training."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from ranker.contracts.schema import FeatureSchema
from ranker.features.list import ListInputs, cut
from ranker.features.names import BUILT_IN, FROM_TOUCHED
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.row import EVENT, SUMMARY_CELLS, UserRow

_DAY_MS = 86_400_000.0


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
        action=_known_actions(events["action"], schema),
        gap=gap,
        value=np.where(np.isfinite(events["value"]), cut(events["value"]), 0),
        age=np.log1p(np.maximum(row.now / 1000.0 - seconds, 0.0)).astype(np.float32),
        hist_pos=hist_pos,
        candidates=listed.indexes,
        cand_item=listed.items,
        features=_candidate_features(row, listed, tables.catalog, statistics, hist_pos),
        covisit=tables.covisits(history, listed.items),
        context=np.concatenate([_moment(row, events, hist_pos, schema), listed.context]).astype(np.float32),
    )


def _known_actions(actions: np.ndarray, schema: FeatureSchema) -> np.ndarray:
    """int64 [L]: where one went back to an earlier schema rows may hold later actions, which are read as views."""
    numbers = actions.astype(np.int64)
    numbers[numbers >= len(schema.actions)] = 0
    return numbers


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
