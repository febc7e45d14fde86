"""A user's state: the compact row. `state.fold` makes it of the user's inputs, `state.codec` stores it."""

from __future__ import annotations

import struct

import numpy as np
from msgspec import Struct

#: One event of the history, 31 bytes: `id` and `item` are 8-byte hashes, `action` the schema's number.
EVENT = np.dtype(
    [("ts", "<i8"), ("id", "<i8"), ("item", "<i8"), ("action", "u1"), ("position", "<i2"), ("value", "<f4")]
)
_ORDER = struct.Struct("<qq")
SUMMARY_CELLS = 64
NO_TIME = -(1 << 62)

#: Fields of lists and users as rows keep them: what earlier releases took has no bounds.
KnownFields = dict[str, str | float | bool]


class CurrentList(Struct, frozen=True, array_like=True):
    """The list that is being re-ranked. `features` is float32 [items, columns], NaN where a candidate has none."""

    ts: int
    request_id: str
    k: int | None
    context: KnownFields
    item_ids: tuple[str, ...]
    columns: tuple[str, ...]
    features: bytes

    def column(self, name: str) -> np.ndarray | None:
        """float32 [items] of a named feature; None where no candidate carries it."""
        if name not in self.columns:
            return None
        matrix: np.ndarray = np.frombuffer(self.features, "<f4").reshape(len(self.item_ids), len(self.columns))
        return matrix[:, self.columns.index(name)]


class UserRow(Struct, frozen=True, array_like=True):
    """The row. Fields are appended, never removed or moved: an older, shorter row decodes with the defaults.

    `revision` counts the inputs applied, `count` the distinct events; `events` is EVENT records, oldest first.
    """

    applied: dict[str, int] = {}
    revision: int = 0
    count: int = 0
    events: bytes = b""
    summary: bytes = b""
    summary_ts: int = NO_TIME
    candidates: CurrentList | None = None
    attributes: KnownFields = {}
    erased_at: int = NO_TIME

    def visible(self, window: int) -> bytes:
        """The newest events that the model sees, at most `window`.

        Their start moves in steps of window / 2, so that an encoding extended event by event equals a full one: an
        event that a deeper layer has seen leaves only together with everything computed from it.
        """
        half = window // 2
        length = self.count if self.count <= window else half + 1 + (self.count - 1) % half
        return self.events[-length * EVENT.itemsize :] if length else b""

    @property
    def now(self) -> int:
        """The newest time this row knows of, in milliseconds: what ages are measured against."""
        newest = _ORDER.unpack_from(self.events, len(self.events) - EVENT.itemsize)[0] if self.events else NO_TIME
        return max(newest, self.candidates.ts if self.candidates else NO_TIME)

    def newest_items(self, count: int) -> list[int]:
        """Hashes of the items of the newest events, oldest first."""
        items: list[int] = np.frombuffer(self.events, EVENT)["item"][-count:].tolist()
        return items

    def long_term(self) -> np.ndarray:
        """float32 [SUMMARY_CELLS]: decayed counts as of `summary_ts`."""
        return np.frombuffer(self.summary, "<f4") if self.summary else np.zeros(SUMMARY_CELLS, "<f4")


EMPTY = UserRow()
