"""Training examples packed on disk, made dense again a batch at a time: in memory each is one number."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from online_learning.data.on_disk import DiskTable
from online_learning.learning.learner import TrainingExample
from ranker.features.names import WORD_FEATURES
from ranker.features.user import UserInputs

# Events, candidates, features, context numbers, texts, places of co-visitation, chosen (-1: nothing), head.
_HEAD = struct.Struct("<8i")
#: The arrays of `UserInputs` with their types as packed, which hold all that they can be. `covisit`, of which most is
#: 0, is packed by what is not; `events`, which only the caches of serving read, is left out.
_PACKED = {
    "history": "<i4", "hist_item": "<i8", "action": "u1", "gap": "<f4", "value": "<f4", "age": "<f4",
    "hist_pos": "<i4", "candidates": "<i4", "cand_item": "<i8", "features": "<f4", "context": "<f4",
    "said": "<f4", "words": "<f4",
}  # fmt: skip
_WRITTEN_AT_ONCE = 256


class StoredExamples:
    """Examples in the order in which they are appended, in a temporary file that goes when nobody holds them."""

    def __init__(self) -> None:
        self._table = DiskTable()
        self._waiting: list[tuple[int, bytes]] = []
        self._lengths = array("i")

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, place: int) -> TrainingExample:
        self._write()
        stored = self._table.get(range(len(self))[place])
        assert stored is not None
        return unpacked(stored)

    def __iter__(self) -> Iterator[TrainingExample]:
        return (self[place] for place in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """int32 [examples]: events in the history of each."""
        return np.array(self._lengths, np.int32)

    def append(self, example: TrainingExample) -> None:
        """Keep an example.

        Raises:
            TemporaryFileError: there is no room.
        """
        self._waiting.append((len(self), packed(example)))
        self._lengths.append(len(example.inputs.history))
        if len(self._waiting) >= _WRITTEN_AT_ONCE:
            self._write()

    def batch(self, places: Iterable[int]) -> list[TrainingExample]:
        """The examples at these places, in this order."""
        return [self[place] for place in places]

    def _write(self) -> None:
        if self._waiting:
            self._table.put(self._waiting)
            self._waiting.clear()


def packed(example: TrainingExample) -> bytes:
    """An example as bytes."""
    inputs = example.inputs
    places = np.flatnonzero(inputs.covisit)
    head = _HEAD.pack(
        len(inputs.history), len(inputs.candidates), inputs.features.shape[1], len(inputs.context), len(inputs.words),
        len(places),
        -1 if example.chosen is None else example.chosen, example.head,
    )  # fmt: skip
    arrays = [getattr(inputs, name).astype(kind, copy=False).tobytes() for name, kind in _PACKED.items()]
    strengths = inputs.covisit.ravel()[places]
    return b"".join((head, *arrays, places.astype("<i4").tobytes(), strengths.astype("<f4").tobytes()))


def unpacked(stored: bytes) -> TrainingExample:
    """The example that `packed` made these bytes of; its `events` are empty."""
    events, candidates, features, context, texts, places, chosen, head = _HEAD.unpack_from(stored)
    shapes = {"features": (candidates, features), "context": (context,)}
    shapes |= {"said": (candidates, texts), "words": (texts, len(WORD_FEATURES))}
    shapes |= dict.fromkeys(("candidates", "cand_item"), (candidates,))
    at = _HEAD.size

    def taken(kind: str, *shape: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(stored, kind, math.prod(shape), at).reshape(shape)
        at += found.nbytes
        return found.astype(np.float32 if found.dtype.kind == "f" else np.int64)

    arrays = {name: taken(kind, *shapes.get(name, (events,))) for name, kind in _PACKED.items()}
    known, strengths = taken("<i4", places), taken("<f4", places)
    covisit = np.zeros((candidates, events), np.float32)
    covisit.ravel()[known] = strengths
    return TrainingExample(UserInputs(events=b"", covisit=covisit, **arrays), None if chosen < 0 else chosen, head)
