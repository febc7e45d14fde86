"""A candidate's features as they would be if one thing that is known of the item were not: what is it worth?

What others of the list are stays as it is. The place in the list is not among them: there is no list without places.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ranker.contracts.schema import FeatureSchema
from ranker.features.list import ListInputs
from ranker.features.names import BUILT_IN, FROM_TOUCHED, feature_names
from ranker.features.user import UserInputs, from_touched, statistics_features
from ranker.items.tables import STATISTICS

#: Gives float32 [F], the features of the candidate at a place, without one thing; None where nobody has said it.
FeaturesWithout = Callable[[int], np.ndarray | None]
#: How often an item was shown, chosen and touched, and since when it is there: what every item may have.
CHOSEN_OFTEN, PUBLISHED = "choices", "published_at"


def things_known(
    inputs: UserInputs, listed: ListInputs, schema: FeatureSchema
) -> Iterator[tuple[str, FeaturesWithout]]:
    """What may be known of an item, by name, and what its features are without that.

    Args:
        inputs: of the user.
        listed: of the list.
        schema: of the model.
    """
    features, names = inputs.features, feature_names(schema)
    unseen = statistics_features(np.zeros((1, len(STATISTICS)), np.float32))[0]
    first = names.index("log_shown")
    yield CHOSEN_OFTEN, _set(features, slice(first, first + len(unseen)), unseen)
    age = slice(names.index("log_age_days"), names.index("has_age") + 1)
    yield PUBLISHED, _set(features, age, np.zeros(2, np.float32), where=features[:, age.stop - 1] > 0)
    for number, feature in enumerate(schema.candidate_features):
        yield feature.name, _Undeclared(inputs, listed, schema, number)
    for name in schema.item_numeric:
        at = names.index(f"item:{name}")
        yield name, _set(features, slice(at, at + 1), np.zeros(1, np.float32), where=features[:, at] != 0)


def _set(features: np.ndarray, columns: slice, values: np.ndarray, where: np.ndarray | None = None) -> FeaturesWithout:
    def without(place: int) -> np.ndarray | None:
        if where is not None and not where[place]:
            return None
        changed: np.ndarray = features[place].copy()
        changed[columns] = values
        return changed

    return without


class _Undeclared:
    """An item whose list does not give it a declared feature."""

    def __init__(self, inputs: UserInputs, listed: ListInputs, schema: FeatureSchema, number: int) -> None:
        before = schema.candidate_features[:number]
        width = len(schema.candidate_features[number].normalise) + 1  # each normal form, and whether it is missing
        start = len(BUILT_IN) + sum(len(one.normalise) + 1 for one in before)
        self._given = slice(start, start + width)
        self._missing = listed.given[:, self._given.stop - 1 - len(BUILT_IN)] > 0
        touched = len(BUILT_IN) + listed.given.shape[1]
        self._touched = slice(touched, touched + len(FROM_TOUCHED) * listed.logs.shape[1])
        self._features, self._logs, self._number = inputs.features, listed.logs, number
        self._places = inputs.hist_pos[inputs.hist_pos >= 0]

    def __call__(self, place: int) -> np.ndarray | None:
        if self._missing[place]:
            return None
        changed: np.ndarray = self._features[place].copy()
        changed[self._given] = 0.0
        changed[self._given.stop - 1] = 1.0
        if len(self._places):
            logs = self._logs.copy()
            logs[place, self._number] = 0.0
            from_touched(logs, self._places, place, changed[self._touched])
        return changed
