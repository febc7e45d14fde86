"""Which list an event belongs to, by the items' hashes alone: what a user's row says of it, in far less than a row."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from ranker.contracts.records import Interaction
from ranker.state.fold import DEFAULT_RULES

_LISTS, _LASTS_MS = DEFAULT_RULES.lists, int(DEFAULT_RULES.list_hours * 3_600_000)


class HashedList(Struct, frozen=True, array_like=True):
    """A user's list: `items` are the int64 hashes of its items, `chosen` is whether one of them was."""

    request_id: str
    ts: int
    items: bytes
    chosen: bool = False


class LookedAt(Struct, frozen=True, array_like=True):
    """What a user looks at, the newest list last, and when the user's newest input was: what a row keeps of lists."""

    newest: int
    lists: tuple[HashedList, ...] = ()

    def showing(self, made: HashedList) -> LookedAt:
        """The newest few lists with one more."""
        others = (one for one in self.lists if one.request_id != made.request_id)
        lists = sorted((*others, made), key=lambda one: (one.ts, one.request_id))
        return LookedAt(made.ts, tuple(lists[-_LISTS:]))

    def chosen_from(self, event: Interaction, item: int) -> HashedList | None:
        """The list that an event belongs to, as `ranker.state.attribution.owner_of` has it, where it holds the item."""
        ts = event.ts or 0
        for one in reversed(self.lists):
            named = (
                one.ts <= ts <= one.ts + _LASTS_MS if event.request_id is None else one.request_id == event.request_id
            )
            if named and self.newest <= one.ts + _LASTS_MS and item in np.frombuffer(one.items, np.int64):
                return one
        return None

    def after(self, event: Interaction, chosen: HashedList | None) -> LookedAt:
        """What is kept once an event has come, which chose from a list or from none."""
        if chosen is None:
            return LookedAt(event.ts or 0, self.lists)
        marked = HashedList(chosen.request_id, chosen.ts, chosen.items, chosen=True)
        return LookedAt(event.ts or 0, tuple(marked if one is chosen else one for one in self.lists))
