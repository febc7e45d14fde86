"""Training examples packed on disk, made dense again a batch at a time: in memory each is one number."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import zstandard

from online_learning.data.on_disk import DiskTable
from online_learning.learning.learner import TrainingExample
from ranker.features.user import UserInputs

_HEAD = struct.Struct("<iiiiii")  # events, candidates, features, context numbers, chosen (-1: nothing), head
#: The arrays of `UserInputs` with their types as packed, which hold all that they can be. `events`, which only the
#: caches of serving read, is left out.
_PACKED = {
    "history": "<i4", "hist_item": "<i8", "action": "u1", "gap": "<f4", "value": "<f4", "age": "<f4",
    "hist_pos": "<i4", "candidates": "<i4", "cand_item": "<i8", "features": "<f4", "covisit": "<f4", "context": "<f4",
}  # fmt: skip


class StoredExamples:
    """Examples in the order in which they are appended, in a temporary file that goes when nobody holds them."""

    def __init__(self) -> None:
        self._table = DiskTable()
        self._compressor, self._decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        self._lengths = array("i")

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, place: int) -> TrainingExample:
        stored = self._table.get(range(len(self))[place])
        assert stored is not None
        return unpacked(self._decompressor.decompress(stored))

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
        self._table.put([(len(self), self._compressor.compress(packed(example)))])
        self._lengths.append(len(example.inputs.history))

    def batch(self, places: Iterable[int]) -> list[TrainingExample]:
        """The examples at these places, in this order."""
        return [self[place] for place in places]


def packed(example: TrainingExample) -> bytes:
    """An example as bytes."""
    inputs = example.inputs
    chosen = -1 if example.chosen is None else example.chosen
    sizes = len(inputs.history), len(inputs.candidates), inputs.features.shape[1], len(inputs.context)
    arrays = (getattr(inputs, name).astype(kind, copy=False).tobytes() for name, kind in _PACKED.items())
    return _HEAD.pack(*sizes, chosen, example.head) + b"".join(arrays)


def unpacked(stored: bytes) -> TrainingExample:
    """The example that `packed` made these bytes of; its `events` are empty."""
    events, candidates, features, context, chosen, head = _HEAD.unpack_from(stored)
    shapes = {"features": (candidates, features), "covisit": (candidates, events), "context": (context,)}
    shapes |= dict.fromkeys(("candidates", "cand_item"), (candidates,))
    arrays: dict[str, np.ndarray] = {}
    at = _HEAD.size
    for name, kind in _PACKED.items():
        shape = shapes.get(name, (events,))
        found = np.frombuffer(stored, kind, int(np.prod(shape)), at)
        at += found.nbytes
        arrays[name] = found.reshape(shape).astype(np.float32 if found.dtype.kind == "f" else np.int64)
    return TrainingExample(UserInputs(events=b"", **arrays), None if chosen < 0 else chosen, head)
