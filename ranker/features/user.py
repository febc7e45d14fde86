"""From a user's row and list to the numbers that the graphs read: pure, one user at a time, in serving and training."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from ranker.contracts.schema import FeatureSchema
from ranker.features.history import EventArrays, ListPlaces
from ranker.features.list import ListInputs
from ranker.features.names import BUILT_IN, FROM_TOUCHED
from ranker.features.words import word_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.row import EVENT, SUMMARY_CELLS, UserRow

_DAY_MS = 86_400_000.0


class UserInputs(Struct, frozen=True):
    """One user's inputs, not padded. L visible events and W texts, oldest first; C candidates in the order shown."""

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
    said: np.ndarray  # float32 [C, W], see `word_inputs`
    words: np.ndarray  # float32 [W, len(WORD_FEATURES)]


class KeptFeatures:
    """What `user_inputs` keeps of a user and one of the lists between two calls: the second makes what is new alone."""

    __slots__ = ("_clock", "_still", "history", "places")

    def __init__(self, history: EventArrays | None = None) -> None:
        """
        Args:
            history: the user's, which the lists share; a new one where None.
        """
        self.history = EventArrays() if history is None else history
        self.places = ListPlaces()
        self._still: np.ndarray | None = None  # float32 [C, F], see `still`
        self._clock = 0  # of the item tables, when that was made

    @staticmethod
    def size(window: int, candidates: int, features: int) -> int:
        """Bytes of one, without the history."""
        return ListPlaces.size(window) + 4 * candidates * features

    def still(self, listed: ListInputs, tables: ItemTables) -> np.ndarray:
        """`_still_features` by the tables of now; made anew where an item of the list has changed since."""
        if self._still is None or int(tables.changed_at[listed.indexes].max(initial=0)) > self._clock:
            self._clock = tables.clock
            self._still = _still_features(listed, tables.catalog, tables.statistics[listed.indexes])
        return self._still


def user_inputs(
    row: UserRow,
    listed: ListInputs,
    tables: ItemTables,
    schema: FeatureSchema,
    statistics: np.ndarray | None = None,
    kept: KeptFeatures | None = None,
) -> UserInputs:
    """All that the graphs read for one user.

    Args:
        row: the state; it has a current list.
        listed: `list_inputs` of that row.
        tables: item rows.
        schema: the model's.
        statistics: float32 [C, len(STATISTICS)] as they were when the list was ranked; the tables' where None.
        kept: of earlier calls for this user, with these inputs of the list and these tables, in step with the
            catalogue; it saves time, and changes nothing.
    """
    visible = row.visible(schema.window)
    room = len(visible) // EVENT.itemsize if kept is None else schema.window
    kept = KeptFeatures() if kept is None else kept
    history = kept.history
    history.read(visible, tables.catalog, schema, room)
    length, places = history.length, kept.places.of(history, listed.place)
    index, seconds = history.index[:length], history.seconds[:length]
    touched = places[places >= 0]
    still = kept.still(listed, tables) if statistics is None else _still_features(listed, tables.catalog, statistics)
    typed = word_inputs(row, listed.indexes, tables.catalog, tables.encoder, history)
    return UserInputs(
        events=visible,
        history=index,
        hist_item=history.item[:length],
        action=history.action[:length],
        gap=history.gap[:length],
        value=history.value[:length],
        age=np.log1p(np.maximum(row.now / 1000.0 - seconds, 0.0)).astype(np.float32),
        hist_pos=places,
        candidates=listed.indexes,
        cand_item=listed.items,
        features=_candidate_features(row, listed, tables.catalog, still, touched),
        covisit=tables.covisits(index, listed.place, len(listed.items)),
        context=_context(_moment(row, history, places, touched, schema), listed.context),
        said=typed.said,
        words=typed.words,
    )


def _context(moment: list[float], given: np.ndarray) -> np.ndarray:
    context = np.empty(len(moment) + len(given), np.float32)
    context[: len(moment)], context[len(moment) :] = moment, given
    return context


def _moment(
    row: UserRow, history: EventArrays, places: np.ndarray, touched: np.ndarray, schema: FeatureSchema
) -> list[float]:
    assert row.candidates is not None
    length = len(row.candidates.item_ids)
    idle, last, since = 0.0, 0.0, history.length
    if history.length:
        idle = max((row.now - row.newest_event) / 1000.0, 0.0)
        last = 1.0 if places[-1] >= 0 else -1.0
        since = history.length - 1 - history.positive if history.positive >= 0 else schema.window
    return [
        math.log1p(row.count) / 4,
        math.log1p(idle) / 5,
        math.log1p(length) / 5,
        last,
        len(set(touched.tolist())) / length,
        math.log1p(since) / 4,
    ]


def _still_features(listed: ListInputs, catalog: Catalog, statistics: np.ndarray) -> np.ndarray:
    """float32 [C, F]: the features that neither the user nor the moment changes; what else there is, is left 0.

    The age of an item is of the moment: of that column alone `has_age` stands here.
    """
    indexes, given = listed.indexes, listed.given.shape[1]
    numeric, touched_columns = catalog.numeric[indexes], len(FROM_TOUCHED) * listed.logs.shape[1]
    features = np.zeros((len(indexes), len(BUILT_IN) + given + touched_columns + numeric.shape[1]), np.float32)
    features[:, :3] = listed.places
    features[:, 3:8] = statistics_features(statistics)
    features[:, 10] = catalog.published[indexes] > 0
    features[:, len(BUILT_IN) : len(BUILT_IN) + given] = listed.given
    if numeric.size:
        features[:, -numeric.shape[1] :] = np.nan_to_num(np.sign(numeric) * np.log1p(np.abs(numeric)))
    return features


def statistics_features(statistics: np.ndarray) -> np.ndarray:
    """float32 [C, 5], from `log_shown` to `touch_rate`, of statistics [C, len(STATISTICS)]."""
    shown, chosen, touched = statistics.T
    features = np.empty((len(statistics), 5), np.float32)
    features[:, :3] = np.log1p(statistics) / (5, 3, 5)
    features[:, 3] = np.log((chosen + 0.5) / (shown + 12.5)) + 3.2
    features[:, 4] = np.log((touched + 1) / (shown + 5)) + 1.6
    return features


def _candidate_features(
    row: UserRow, listed: ListInputs, catalog: Catalog, still: np.ndarray, touched: np.ndarray
) -> np.ndarray:
    """float32 [C, F]: the still ones, and what the user and the moment make of the rest."""
    features = still.copy()
    features[:, 8] = np.log1p(row.long_term()[listed.items % SUMMARY_CELLS])
    published = catalog.published[listed.indexes]
    if published.any():
        features[:, 9] = np.where(published > 0, np.log1p(np.maximum(row.now - published, 0) / _DAY_MS) / 5, 0)
        features[:, 10] = published > 0
    if len(touched) and listed.logs.size:
        begin = len(BUILT_IN) + listed.given.shape[1]
        from_touched(
            listed.logs, touched, slice(None), features[:, begin : begin + len(FROM_TOUCHED) * listed.logs.shape[1]]
        )
    return features


def from_touched(logs: np.ndarray, touched: np.ndarray, places: slice | int, out: np.ndarray) -> None:
    """For each declared feature the columns of FROM_TOUCHED, in log units, cut at 2: into float32 [..., 4 * declared].

    Args:
        logs: float32 [C, declared].
        touched: positions in the list of the events on its items, oldest first; at least one.
        places: of the candidates that are asked for.
        out: takes them.
    """
    last, mean = logs[touched[-1]], logs[np.unique(touched)].mean(axis=0)
    for at, reference in ((0, last), (2, mean)):
        distance = np.clip(logs[places] - reference, -2, 2)
        out[..., at :: len(FROM_TOUCHED)] = distance
        out[..., at + 1 :: len(FROM_TOUCHED)] = np.abs(distance)
