"""What the trainer remembers against forgetting: a bounded, uniform sample of everything it has ever learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from online_learning.learning.learner import TrainingExample, training_example
from ranker.contracts.records import Example
from ranker.contracts.schema import FeatureSchema
from ranker.features.user import UserInputs
from ranker.items.tables import ItemTables

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Example)


class Remembered(Struct, frozen=True, array_like=True):
    """An example as it came, and the co-visitation its features had then: counted anew it would hold its own outcome.

    `places` are uint16 (candidate, event) pairs, `strengths` the float32 values there; all others are 0.
    """

    user_id: str
    ts: int  # milliseconds since the epoch
    example: bytes
    places: bytes = b""
    strengths: bytes = b""


class ReplayBuffer:
    """A reservoir (J. Vitter, "Random sampling with a reservoir", TOMS 11, 1985, algorithm R).

    Holds at most `capacity` entries; after n additions each of the n is in it with probability min(1, capacity / n),
    whatever its age. Places that `forget` frees go to the next additions.
    """

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        """
        Args:
            capacity: entries at most; 0 remembers nothing.
            rng: decides which entries stay, and which are sampled.
        """
        self.capacity = capacity
        self.seen = 0
        self._rng = rng
        self._entries: list[Remembered] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Sequence[Remembered]:
        """What is remembered, in no order."""
        return self._entries

    def add(self, entry: Remembered) -> None:
        """Offer an entry."""
        self.seen += 1
        if len(self._entries) < self.capacity:
            self._entries.append(entry)
        elif (place := int(self._rng.integers(self.seen))) < self.capacity:
            self._entries[place] = entry

    def sample(self, count: int) -> list[Remembered]:
        """Entries drawn uniformly without replacement; fewer where fewer are held."""
        count = min(count, len(self._entries))
        if not count:
            return []
        return [self._entries[at] for at in self._rng.choice(len(self._entries), count, replace=False).tolist()]

    def forget(self, unwanted: Callable[[Remembered], bool]) -> int:
        """Drop every entry that is unwanted; how many there were."""
        before = len(self._entries)
        self._entries = [entry for entry in self._entries if not unwanted(entry)]
        return before - len(self._entries)

    def restore(self, seen: int, entries: Sequence[Remembered]) -> None:
        """Hold these entries, or as many of them as there is room for, and go on as after `seen` additions."""
        self.seen, self._entries = seen, list(entries)
        if len(self._entries) > self.capacity:  # a uniform part of a uniform sample is one
            self._entries = self.sample(self.capacity)


def remember(example: Example, inputs: UserInputs) -> Remembered:
    """An entry for an example and the features it was learned with."""
    flat = inputs.covisit.ravel()
    held = (flat != 0).nonzero()[0]  # many times faster than looking for both coordinates
    places, strengths = np.stack(np.divmod(held, max(1, inputs.covisit.shape[1])), axis=1), flat[held]
    return Remembered(
        example.user_id,
        example.ts,
        _encoder.encode(example),
        places.astype("<u2").tobytes(),
        strengths.astype("<f4").tobytes(),
    )


def restored(entry: Remembered, tables: ItemTables, schema: FeatureSchema) -> TrainingExample:
    """The example to learn from again: features as they were, by the rows of now."""
    found = training_example(_decoder.decode(entry.example), tables, schema)
    covisit = np.zeros_like(found.inputs.covisit)
    places = np.frombuffer(entry.places, "<u2").reshape(-1, 2).astype(np.int64)
    covisit[places[:, 0], places[:, 1]] = np.frombuffer(entry.strengths, "<f4")
    return msgspec.structs.replace(found, inputs=msgspec.structs.replace(found.inputs, covisit=covisit))
