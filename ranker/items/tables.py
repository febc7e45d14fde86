"""What a model has learned of each item, as rows beside the graphs, so that changed rows apply in place.

A row: the id embedding, item statistics, and the items most often visited next. Rows stand at the catalogue's indexes;
an item the model has never met has a row of zeros, and is its text and category alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from safetensors.numpy import load_file

from ranker.contracts.errors import BundleError
from ranker.items.arrays import save_arrays
from ranker.items.catalog import UNKNOWN, Catalog, grown

#: Item statistics, decayed by nothing: how often the item was shown in a list, chosen from one, touched at all.
STATISTICS = ("shown", "chosen", "touched")
#: Rows computed in one go: other threads of a worker wait for no longer, and the texts of a catalogue need much memory.
_ROWS_AT_ONCE = 512


class TableArrays(Struct, frozen=True, kw_only=True):
    """The learned rows as they travel in a bundle. M items, d width, N neighbours, e encoder width, t reduced width."""

    items: np.ndarray  # int64 [M] hashes of item ids
    ids: np.ndarray  # float32 [M, d]
    statistics: np.ndarray  # float32 [M, len(STATISTICS)]
    neighbours: np.ndarray  # int64 [M, N] hashes, 0 where there is none
    strengths: np.ndarray  # float32 [M, N] co-visitation, 0..1
    categories: np.ndarray  # float32 [buckets, d]; row 0 is "none" and zero
    text: np.ndarray  # float32 [t, d]
    reduction: np.ndarray  # float32 [e, t]
    reduction_mean: np.ndarray  # float32 [e]

    def save(self, path: Path) -> None:
        """Write as safetensors.

        Raises:
            OSError: it cannot be written.
        """
        save_arrays({name: getattr(self, name) for name in self.__struct_fields__}, path)

    @classmethod
    def load(cls, path: Path) -> TableArrays:
        """Read what `save` wrote.

        Raises:
            BundleError: the file is no table file, or its arrays do not belong together.
        """
        try:
            found = cls(**load_file(path))
        except Exception as error:
            raise BundleError(f"{path} holds no item tables: {error}") from error
        if (fault := _fault(found)) is not None:
            raise BundleError(f"{path} holds no item tables: {fault}")
        return found


#: The dimensions of each array, by the letters of `TableArrays`; S is the number of statistics, c that of categories.
_SHAPES = {
    "items": "M", "ids": "Md", "statistics": "MS", "neighbours": "MN", "strengths": "MN", "categories": "cd",
    "text": "td", "reduction": "et", "reduction_mean": "e",
}  # fmt: skip
_WHOLE = ("items", "neighbours")  # int64; the others are float32
#: Of a width, or of neighbours: an array without rows may claim any number of columns, and rows come later.
_WIDEST = 8192


def _fault(arrays: TableArrays) -> str | None:
    """What keeps these arrays from being one model's tables; None where nothing does."""
    sizes = {"S": len(STATISTICS)}
    for name, letters in _SHAPES.items():
        array, kind = getattr(arrays, name), np.int64 if name in _WHOLE else np.float32
        if array.dtype != kind or array.ndim != len(letters):
            return f"{name} is {array.dtype} {list(array.shape)}"
        for letter, size in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                return f"{name} is {list(array.shape)}, which does not fit the arrays before it"
            if letter not in "Mc" and size > _WIDEST:
                return f"{name} is {list(array.shape)}; at most {_WIDEST} columns are possible"
    return None


def category_buckets(categories: np.ndarray, buckets: int) -> np.ndarray:
    """int64 rows of the category table for category hashes; 0 stays 0, which is "none"."""
    rows: np.ndarray = np.where(categories == 0, 0, 1 + categories % (buckets - 1))
    return rows


def reduce_text(vectors: np.ndarray, reduction: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float32 [n, t] unit vectors of encoded texts [n, e]; all-zero texts stay zero."""
    reduced = (vectors - mean) @ reduction
    reduced *= vectors.any(axis=1, keepdims=True)
    unit: np.ndarray = reduced / (np.linalg.norm(reduced, axis=1, keepdims=True) + 1e-9)
    return unit.astype(np.float32)


class ItemTables:
    """The rows of one model version over the catalogue's indexes, kept in step with it."""

    def __init__(
        self,
        arrays: TableArrays,
        catalog: Catalog,
        encoder: str,
        like: ItemTables | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            arrays: what was learned.
            catalog: the items.
            encoder: whose text vectors to use.
            like: tables of another version over the same catalogue, maybe in use on another thread. Where they reduce
                texts in the same way, and versions of one training do, their reduced texts are taken over.
            rest: called between two pieces of the work, for who has something else to let through.
        """
        self.arrays, self.catalog, self.encoder = arrays, catalog, encoder
        catalog.expect(encoder, len(arrays.reduction))
        self._changes = catalog.listen()
        self._taken: set[int] = set()  # changes that are being taken over just now
        taken = self._texts_of(like) if like is not None and self._reduces_as(like) else None
        reduced = 0 if taken is None else len(taken)
        rows = max(catalog.count, reduced)  # all columns have the same room, now and whenever they grow
        d, neighbours = arrays.ids.shape[1], arrays.neighbours.shape[1]
        self.ids = np.zeros((rows, d), np.float32)
        self.vectors = np.zeros((rows, d), np.float32)
        self.texts = np.zeros((rows, arrays.reduction.shape[1]), np.float32)
        self.statistics = np.zeros((rows, len(STATISTICS)), np.float32)
        self.neighbours = np.zeros((rows, neighbours), np.int64)
        self.strengths = np.zeros((rows, neighbours), np.float32)
        self.changed_at = np.zeros(rows, np.int64)
        self.clock = 0
        if taken is not None:
            self.texts[:reduced] = taken
        rest()
        indexes = catalog.add_all(arrays.items)
        rest()
        self._grow()
        known = len(self.vectors)
        self.ids[indexes] = arrays.ids
        self.statistics[indexes] = arrays.statistics
        self.neighbours[indexes] = arrays.neighbours
        self.strengths[indexes] = arrays.strengths
        # Another thread may describe items meanwhile: `sync` computes those again.
        rest()
        self._recompute(np.arange(min(catalog.count, known)), reduced, rest)

    @property
    def has_neighbours(self) -> bool:
        """Whether this model looks at co-visitation at all."""
        return self.neighbours.shape[1] > 0

    def sync(self) -> None:
        """Take over what the catalogue has learned of items since the last call."""
        if self.catalog.count > len(self.vectors):
            self._grow()
        if self._changes:
            self._taken = self._changes.copy()  # atomic, while another thread adds
            self._changes -= self._taken
            self._grow()
            self._recompute(np.array(list(self._taken), np.int64))
            self._taken = set()

    def put_row(self, item: int, row: bytes) -> None:
        """Replace what is learned of one item, by the hash of its id; see `pack_row`.

        Raises:
            BundleError: the row has not this model's shape.
        """
        self.put_rows([item], [row])

    def put_rows(self, items: Sequence[int], rows: Sequence[bytes]) -> None:
        """Replace what is learned of several items, each named once.

        Raises:
            BundleError: a row has not this model's shape, or holds a number that is not finite; none is replaced.
        """
        if not items:
            return
        d, n, s = self.ids.shape[1], self.neighbours.shape[1], len(STATISTICS)
        size = 4 * (d + s + n) + 8 * n
        wrong = next((len(row) for row in rows if len(row) != size), None)
        if wrong is not None:
            raise BundleError(f"an item row of {wrong} bytes; this model's rows have {size}")
        packed = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), size)
        numbers = np.ascontiguousarray(packed[:, : 4 * (d + s + n)]).view("<f4")
        if not np.isfinite(numbers).all():
            raise BundleError("an item row holds a number that is not finite", "not-finite")
        indexes = self.catalog.add_all(np.array(items, np.int64))
        self._grow()
        self.ids[indexes], self.statistics[indexes] = numbers[:, :d], numbers[:, d : d + s]
        self.strengths[indexes] = numbers[:, d + s :]
        self.neighbours[indexes] = np.ascontiguousarray(packed[:, 4 * (d + s + n) :]).view("<i8")
        self._recompute(indexes)

    def covisits(self, history: np.ndarray, place: Mapping[int, int], count: int, depth: int = 8) -> np.ndarray:
        """float32 [C, L]: how often each candidate follows each of the newest `depth` events.

        Args:
            history: catalogue indexes [L], oldest first.
            place: hash of each candidate's item -> its position.
            count: C.
            depth: events looked at; older ones get 0.
        """
        result = np.zeros((count, len(history)), np.float32)
        if not self.has_neighbours or not len(history):
            return result
        newest = history[-depth:]
        found = zip(newest.tolist(), self.neighbours[newest].tolist(), self.strengths[newest].tolist(), strict=True)
        for column, (index, neighbours, strengths) in enumerate(found, len(history) - len(newest)):
            if index == UNKNOWN:
                continue
            for item, strength in zip(neighbours, strengths, strict=True):
                at = place.get(item)
                if at is not None and strength:
                    result[at, column] = strength
        return result

    def close(self) -> None:
        """Stop following the catalogue."""
        self.catalog.unlisten(self._changes)

    def _grow(self) -> None:
        rows = self.catalog.count  # asked once: another thread may add items between two columns
        for name in (
            "ids", "vectors", "texts", "statistics", "neighbours", "strengths", "changed_at",
        ):  # fmt: skip
            setattr(self, name, grown(getattr(self, name), rows))

    def _reduces_as(self, other: ItemTables) -> bool:
        """Whether texts are the same numbers to both."""
        ours, theirs = self.arrays, other.arrays
        return (
            self.catalog is other.catalog
            and self.encoder == other.encoder
            and np.array_equal(ours.reduction, theirs.reduction)
            and np.array_equal(ours.reduction_mean, theirs.reduction_mean)
        )

    def _texts_of(self, other: ItemTables) -> np.ndarray:
        """Reduced texts to copy, which another thread may be changing; their room may be larger than the catalogue.

        A row that changes after this listens to the catalogue is computed again anyway. One that changed before is in
        the other's `_changes`, then in its `_taken`, and then computed: asked for in this order, none slips through.
        """
        self._changes |= other._changes.copy()
        self._changes |= other._taken
        return other.texts

    def _recompute(self, indexes: np.ndarray, reduced: int = 0, rest: Callable[[], None] = lambda: None) -> None:
        """Item vectors anew: id row + reduced text projected + category row. Texts of the first rows may be there."""
        self.clock += 1
        for start in range(0, len(indexes), _ROWS_AT_ONCE):
            self._recompute_some(indexes[start : start + _ROWS_AT_ONCE], reduced)
            rest()
        self.vectors[UNKNOWN] = 0

    def _recompute_some(self, indexes: np.ndarray, reduced: int) -> None:
        arrays, fresh = self.arrays, indexes[indexes >= reduced]
        texts = self.catalog.text_vectors(self.encoder, fresh) if len(fresh) else None
        if texts is not None:
            self.texts[fresh] = reduce_text(texts, arrays.reduction, arrays.reduction_mean)
        buckets = category_buckets(self.catalog.categories[indexes], len(arrays.categories))
        self.vectors[indexes] = self.ids[indexes] + self.texts[indexes] @ arrays.text + arrays.categories[buckets]
        self.changed_at[indexes] = self.clock


def pack_row(ids: np.ndarray, statistics: np.ndarray, neighbours: np.ndarray, strengths: np.ndarray) -> bytes:
    """One item's learned row as bytes: id row, statistics and strengths as float32, then neighbours as int64."""
    numbers = np.concatenate([ids, statistics, strengths]).astype("<f4")
    return numbers.tobytes() + neighbours.astype("<i8").tobytes()
