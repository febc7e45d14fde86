"""What a user typed, as it relates to a list: how like each text each candidate is, and how much a text is still worth.

Likeness is the cosine of the encoder's own vectors, not of the reduced ones, and says how far a candidate is above or
below its list: so it means the same of every encoder, and a text that all candidates are as like moves none of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ranker.features.history import EventArrays
from ranker.features.names import WORD_FEATURES
from ranker.items.catalog import Catalog
from ranker.state.row import UserRow
from ranker.state.words import Words

_LATER = 0.7  # what is left of a text with each later one
_HALF_LIVES_S = (3600.0, 300.0, 86_400.0)
_LEAST_SPREAD = 0.02  # of the cosines of a list: what is closer together than that is as like as the other
_MOST_SPREAD = 4.0


class WordInputs(NamedTuple):
    """A user's texts for one list; W of them, oldest first, as far as they are of the model's encoder."""

    said: np.ndarray  # float32 [C, W] deviations of each candidate's cosine from the list's mean
    words: np.ndarray  # float32 [W, len(WORD_FEATURES)]


def word_inputs(
    row: UserRow, candidates: np.ndarray, catalog: Catalog, encoder: str, history: EventArrays
) -> WordInputs:
    """What the graphs read of a user's texts.

    Args:
        row: the state.
        candidates: int64 [C] catalogue indexes.
        catalog: has the items' vectors.
        encoder: the model's; texts that another one encoded count as none.
        history: of the row.
    """
    known = [one for one in row.words if one.encoder == encoder and one.vector]
    items = catalog.text_vectors(encoder, candidates) if known else None
    if items is not None:
        known = [one for one in known if len(one.vector) == items.shape[1]]
    if items is None or not known:
        return WordInputs(np.zeros((len(candidates), 0), np.float32), np.zeros((0, len(WORD_FEATURES)), np.float32))
    return WordInputs(_said(items, known), _worth(row, known, history))


def _said(items: np.ndarray, known: list[Words]) -> np.ndarray:
    """float32 [C, W]; 0 for a candidate without a text."""
    vectors = np.stack([np.frombuffer(one.vector, np.int8) for one in known], axis=1).astype(np.float32)  # [e, W]
    vectors /= np.linalg.norm(vectors, axis=0)
    lengths = np.linalg.norm(items, axis=1)
    described = lengths > 0
    said = np.zeros((len(items), len(known)), np.float32)
    if described.any():
        cosines = items[described] @ vectors / lengths[described, None]
        deviations = (cosines - cosines.mean(axis=0)) / (cosines.std(axis=0) + _LEAST_SPREAD)
        said[described] = deviations.clip(-_MOST_SPREAD, _MOST_SPREAD)
    return said


def _worth(row: UserRow, known: list[Words], history: EventArrays) -> np.ndarray:
    """float32 [W, len(WORD_FEATURES)]."""
    ts = np.array([one.ts for one in known], np.float64) / 1000
    later = _LATER ** np.arange(len(known) - 1, -1, -1.0)
    ages = np.maximum(row.now / 1000 - ts, 0.0)
    hour, minutes, day = (0.5 ** (ages / half_life) for half_life in _HALF_LIVES_S)
    since = history.length - np.searchsorted(history.seconds[: history.length], ts, side="right")
    about = np.array([one.item != 0 for one in known])
    columns = (later * hour, later * minutes, day, later * hour * np.exp(-since / 3), later * hour * about)
    return np.stack(columns, axis=1).astype(np.float32)
