"""A user's state: the compact row. `state.fold` makes it of the user's inputs, `state.codec` stores it."""

from __future__ import annotations

import struct
from functools import cached_property
from hashlib import blake2b

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.ids import hash_id
from ranker.state.words import Words

#: One event of the history, 35 bytes: `id` is its `event_key`, `item` the hash of the item's id, `action` the schema's
#: number, `list` the `list_tag` of the request that the event names, 0 where it names none.
EVENT = np.dtype(
    [
        ("ts", "<i8"), ("id", "<i8"), ("item", "<i8"), ("action", "u1"), ("position", "<i2"), ("value", "<f4"),
        ("list", "<u4"),
    ]
)  # fmt: skip
_uncached = hash_id.__wrapped__  # a request's id is soon seen no more: it would only push items out of the cache
_ORDER = struct.Struct("<qq")
_KEY = struct.Struct("<qqB")
SUMMARY_CELLS = 64
NO_TIME = -(1 << 62)

#: Fields of lists and users as rows keep them: what earlier releases took has no bounds.
KnownFields = dict[str, str | float | bool]


def event_key(event_id: int, item: int, action: int) -> int:
    """What names an event: the hash of (event_id, item_id, action), so that each item of an order counts.

    Args:
        event_id: hash of the event's id.
        item: hash of the item's id.
        action: the schema's number.
    """
    packed = _KEY.pack(event_id, item, action)
    return int.from_bytes(blake2b(packed, digest_size=8).digest(), "little", signed=True) or 1


def list_tag(request_id: str) -> int:
    """A list's name in events, 32 bits: it has to differ among the few lists of one user."""
    return _uncached(request_id) & 0xFFFF_FFFF or 1


class CurrentList(Struct, frozen=True, array_like=True, dict=True):
    """A list that is being re-ranked. `features` is float32 [items, columns], NaN where a candidate has none.

    One that is out of date has ended: nothing but its name and its times is kept, so that it holds its place among the
    newest.
    """

    ts: int
    request_id: str
    k: int | None
    context: KnownFields
    item_ids: tuple[str, ...]
    columns: tuple[str, ...]
    features: bytes
    expires_at: int = 1 << 62  # the last time at which an event makes a ranking of it
    reasons: int = 0  # that its rankings give of each item

    @cached_property
    def hashes(self) -> np.ndarray:
        """int64 [items]: hashes of the items' ids, made once for as long as the list is held."""
        hashes = np.array([hash_id(item_id) for item_id in self.item_ids], np.int64)
        hashes.flags.writeable = False
        return hashes

    def column(self, name: str) -> np.ndarray | None:
        """float32 [items] of a named feature; None where no candidate carries it."""
        if name not in self.columns:
            return None
        matrix: np.ndarray = np.frombuffer(self.features, "<f4").reshape(len(self.item_ids), len(self.columns))
        return matrix[:, self.columns.index(name)]

    def ended(self) -> CurrentList:
        """What is kept of it when it is out of date."""
        return CurrentList(self.ts, self.request_id, None, {}, (), (), b"", self.expires_at)


class UserRow(Struct, frozen=True, array_like=True):
    """The row, version 2. Fields are appended, never removed or moved: a shorter row decodes with the defaults.

    `revision` counts the inputs applied, `count` the distinct events; `events` is EVENT records, oldest first; `lists`
    are the newest few by (ts, request_id), oldest first, ended ones among them.
    """

    applied: dict[str, int] = {}
    revision: int = 0
    count: int = 0
    events: bytes = b""
    summary: bytes = b""
    summary_ts: int = NO_TIME
    lists: tuple[CurrentList, ...] = ()
    attributes: KnownFields = {}
    erased_at: int = NO_TIME
    attributes_ts: int = NO_TIME
    newest: int = NO_TIME  # of all events and lists applied, in time; what makes lists end
    topics: dict[str, bytes] = {}  # whose offsets are applied: ids by name
    epoch: int = 0  # when the worker that began the row had got its partition, in ms: `revision` counts from there
    words: tuple[Words, ...] = ()  # the newest texts that the user typed, oldest first

    @property
    def current(self) -> tuple[CurrentList, ...]:
        """The lists that are ranked, oldest first."""
        return tuple(listed for listed in self.lists if listed.item_ids)

    @property
    def candidates(self) -> CurrentList | None:
        """The newest of the lists that are ranked."""
        for listed in reversed(self.lists):
            if listed.item_ids:
                return listed
        return None

    def of(self, listed: CurrentList) -> UserRow:
        """The row as a ranking of one of its lists sees it, and as the list's examples keep it: without the others."""
        return msgspec.structs.replace(self, lists=(listed,))

    def named(self, request_id: str) -> CurrentList | None:
        """The list of a request, if it is ranked."""
        for listed in self.lists:
            if listed.request_id == request_id and listed.item_ids:
                return listed
        return None

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
        typed = self.words[-1].ts if self.words else NO_TIME
        return max(self.newest_event, self.lists[-1].ts if self.lists else NO_TIME, typed)

    @property
    def newest_event(self) -> int:
        """The time of the newest event, in milliseconds."""
        newest: int = _ORDER.unpack_from(self.events, len(self.events) - EVENT.itemsize)[0] if self.events else NO_TIME
        return newest

    def newest_items(self, count: int) -> list[int]:
        """Hashes of the items of the newest events, oldest first."""
        items: list[int] = np.frombuffer(self.events, EVENT)["item"][-count:].tolist()
        return items

    def long_term(self) -> np.ndarray:
        """float32 [SUMMARY_CELLS]: decayed counts as of `summary_ts`."""
        return np.frombuffer(self.summary, "<f4") if self.summary else np.zeros(SUMMARY_CELLS, "<f4")


EMPTY = UserRow()
