"""What is known of every item, whichever model serves: category, numbers, text vector, and whether it is withdrawn.

An item has an index here, from 1, for as long as the process lives; index 0 stands for an item nobody has described.
"""

from __future__ import annotations

import hashlib
import math
import threading

import numpy as np

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Item, ItemVector

UNKNOWN = 0
_FIRST_ROOM = 1024
_LOOKED_UP_AT_ONCE = 4096
_uncached = hash_id.__wrapped__  # texts are seen once: they would only push items out of the cache


def item_text(item: Item) -> str:
    """The text that stands for an item: title, text, category and tags, in that order; empty where it has none."""
    parts = (item.title, item.text, item.category, ", ".join(item.tags or ()))
    return ". ".join(part for part in parts if part)


def text_hash(text: str) -> str:
    """16 hex digits that name a text, so that the same text is encoded once."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def grown(array: np.ndarray, rows: int) -> np.ndarray:
    """The array with at least `rows` rows, new ones zero; room doubles, so that adding stays cheap."""
    if rows <= len(array):
        return array
    larger = np.zeros((max(rows, 2 * len(array), _FIRST_ROOM), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


class Catalog:
    """Columns over item indexes. One thread writes while another reads: arrays are replaced, never shrunk."""

    def __init__(self, numeric: tuple[str, ...] = ()) -> None:
        """
        Args:
            numeric: the item numbers to keep, as the feature schema names them.
        """
        self.numeric_names = numeric
        self.index_of: dict[int, int] = {}
        self.count = 1
        self.hashes = np.zeros(_FIRST_ROOM, np.int64)
        self.categories = np.zeros(_FIRST_ROOM, np.int64)
        self.published = np.zeros(_FIRST_ROOM, np.int64)
        self.withdrawn = np.zeros(_FIRST_ROOM, bool)
        self.numeric = np.zeros((_FIRST_ROOM, len(numeric)), np.float32)
        self.vectors: dict[str, np.ndarray] = {}
        self._widths: dict[str, int] = {}  # encoder -> numbers in each of its vectors, as a model expects them
        self._encoded: dict[str, np.ndarray] = {}  # encoder -> hash of the text that each vector is of; 0: of none
        self._listeners: list[set[int]] = []
        self._lock = threading.Lock()

    def add(self, item: int) -> int:
        """Index of an item by the hash of its id, made where it is new."""
        index = self.index_of.get(item)
        if index is not None:
            return index
        with self._lock:
            if item in self.index_of:
                return self.index_of[item]
            index, rows = self.count, self.count + 1
            for name in ("hashes", "categories", "published", "withdrawn", "numeric"):
                setattr(self, name, grown(getattr(self, name), rows))
            self.hashes[index] = item
            self.count = rows
            self.index_of[item] = index  # last: a reader that finds the index finds its row
        return index

    def add_all(self, items: np.ndarray) -> np.ndarray:
        """Indexes int64 [n] of items by the hashes of their ids int64 [n], made where they are new."""
        found = np.empty(len(items), np.int64)
        for start in range(0, len(items), _LOOKED_UP_AT_ONCE):
            hashes = items[start : start + _LOOKED_UP_AT_ONCE].tolist()
            indexes = np.array([self.index_of.get(item, UNKNOWN) for item in hashes], np.int64)
            for at in np.flatnonzero(indexes == UNKNOWN).tolist():
                indexes[at] = self.add(hashes[at])
            found[start : start + len(hashes)] = indexes
        return found

    def put(self, item: Item) -> None:
        """Describe an item, or describe it anew; one that was withdrawn is back.

        What says nothing new changes nothing: encodings of who touched the item stay as they are.
        """
        index = self.add(hash_id(item.item_id))
        numbers = item.numeric or {}
        numeric = np.array([numbers.get(name, math.nan) for name in self.numeric_names], np.float32)
        told = (hash_id(item.category) if item.category else 0, item.published_at or 0, numeric.tobytes())
        known = (int(self.categories[index]), int(self.published[index]), self.numeric[index].tobytes())
        self.withdrawn[index] = False
        if told != known:
            self.categories[index], self.published[index], self.numeric[index] = *told[:2], numeric
            self._changed(index)

    def withdraw(self, item_id: str) -> None:
        """Take an item out of every later ranking."""
        self.withdrawn[self.add(hash_id(item_id))] = True

    def expect(self, encoder: str, width: int) -> None:
        """Vectors of this encoder have so many numbers, says a model; of encoders that none names no vector is kept."""
        self._widths[encoder] = width
        matrix = self.vectors.get(encoder)
        if matrix is not None and matrix.shape[1] != width:  # kept before anyone knew better
            del self.vectors[encoder], self._encoded[encoder]

    def put_vector(self, vector: ItemVector) -> None:
        """Keep an item's encoded text.

        Raises:
            InvalidRecord: the vector's length is not that of the encoder's others.
        """
        if self._widths and vector.encoder not in self._widths:
            return
        values = np.frombuffer(vector.vector, "<f2")
        matrix = self.vectors.get(vector.encoder)
        if matrix is None:
            matrix = np.zeros((_FIRST_ROOM, self._widths.get(vector.encoder, len(values))), np.float16)
        if matrix.shape[1] != len(values):
            raise InvalidRecord(
                "invalid", f"{vector.item_id}: {len(values)} numbers from {vector.encoder}; it gives {matrix.shape[1]}"
            )
        index = self.add(hash_id(vector.item_id))
        matrix = grown(matrix, index + 1)
        fresh = matrix[index].tobytes() != vector.vector
        matrix[index] = values
        self.vectors[vector.encoder] = matrix
        encoded = grown(self._encoded.get(vector.encoder, np.zeros(_FIRST_ROOM, np.int64)), index + 1)
        encoded[index] = _uncached(vector.text_hash)
        self._encoded[vector.encoder] = encoded
        if fresh:
            self._changed(index)

    def wants_vector(self, item: Item, encoder: str) -> bool:
        """Whether the item has a text that this encoder has not encoded yet."""
        text, index, encoded = item_text(item), self.index_of.get(hash_id(item.item_id)), self._encoded.get(encoder)
        if not text or encoded is None or index is None or index >= len(encoded):
            return bool(text)
        return bool(encoded[index] != _uncached(text_hash(text)))

    def text_vectors(self, encoder: str, indexes: np.ndarray) -> np.ndarray | None:
        """float32 [items, dim] of an encoder, zero where an item has none; None where nothing is encoded yet."""
        matrix = self.vectors.get(encoder)
        if matrix is None:
            return None
        known = indexes < len(matrix)
        found: np.ndarray = matrix[np.where(known, indexes, UNKNOWN)].astype(np.float32)
        return found

    def listen(self) -> set[int]:
        """A set to which the index of every item is added from now on, whenever what is known of it changes."""
        changes: set[int] = set()
        self._listeners.append(changes)
        return changes

    def unlisten(self, changes: set[int]) -> None:
        """Stop adding to a set that `listen` gave."""
        self._listeners = [kept for kept in self._listeners if kept is not changes]

    def _changed(self, index: int) -> None:
        for changes in self._listeners:
            changes.add(index)
