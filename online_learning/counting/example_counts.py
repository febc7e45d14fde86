"""What an example adds to the counts: its list was shown, and what the user did since the last example happened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from online_learning.counting.counts import FOLLOWED_BACK, ItemCounts
from online_learning.counting.former_users import FormerUsers
from online_learning.counting.recent_hashes import RecentHashes
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example
from ranker.items.tables import ItemTables
from ranker.state.row import EVENT, UserRow

_id = hash_id.__wrapped__  # these ids are seen once: they would only push items out of the cache


class ExampleCounts:
    """Item statistics and co-visitation out of examples, as `fit.count` makes them out of events.

    An example's row holds the user's newest events; those up to the last one counted are counted already. Until when a
    user's are is known of the newest `limit` users exactly, and of all before as `FormerUsers` says: none is counted
    again, and by a small chance one that came long before is not counted at all. Of whoever is new events up to `floor`
    count as counted.
    """

    def __init__(self, tables: ItemTables, floor: int, limit: int) -> None:
        """
        Args:
            tables: where the counts go.
            floor: milliseconds; what is not newer was counted before, by the model that this starts from.
            limit: users, and lists, that are remembered exactly.
        """
        self.items = ItemCounts(tables)
        self.floor, self.limit = floor, limit
        self._users: OrderedDict[int, int] = OrderedDict()
        self._lists = RecentHashes(limit)
        self._former = FormerUsers()

    def learn(self, example: Example, row: UserRow) -> np.ndarray:
        """Count an example, once it was learned from; int64 indexes of the rows that changed, each once.

        What follows what is in the rows when `items.write` has been called.
        """
        catalog, changed = self.items.tables.catalog, set[int]()
        if self._lists.add(_id(f"{example.user_id}:{example.request_id}")):
            assert row.candidates is not None
            listed = catalog.add_all(row.candidates.hashes)
            self.items.show(listed)
            changed.update(listed.tolist())
        user = _id(example.user_id)
        remembered = self._users.pop(user, None)
        counted = newest = max(self.floor, self._former.until(user)) if remembered is None else remembered
        events = np.frombuffer(row.events, EVENT)
        fresh = events["ts"] > counted
        earlier = int(fresh.argmax()) if fresh.any() else len(events)  # the first that is not counted yet
        trail: list[int] = catalog.add_all(events["item"][max(0, earlier - FOLLOWED_BACK) : earlier]).tolist()
        for ts, item in zip(*(events[name][earlier:].tolist() for name in ("ts", "item")), strict=True):
            index = catalog.add(item)
            changed.update(self._touch(trail, index))
            newest = ts
            trail.append(index)
        outcome = example.outcome
        if outcome is not None:
            index = catalog.add(hash_id(outcome.item_id))
            if outcome.ts > counted:
                changed.update(self._touch(trail, index))
            self.items.choose(index)
            changed.add(index)
            newest = max(newest, outcome.ts)
        self._users[user] = newest
        while len(self._users) > self.limit:
            self._former.put(*self._users.popitem(last=False))
        return np.array(sorted(changed), np.int64)

    def forget(self, user_id: str) -> None:
        """Nothing is known of a user any more; the items' sums stay."""
        self._users.pop(_id(user_id), None)

    def state(self) -> dict[str, np.ndarray]:
        """Everything but the tables, as arrays."""
        former = self._former.state()
        return {
            **({} if former is None else {"former": former}),
            **self.items.transitions(),
            "users": np.array(list(self._users), np.int64),
            "counted": np.array(list(self._users.values()), np.int64),
            "lists": self._lists.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray], floor: int) -> None:
        """Go on from what `state` gave."""
        self.items.restore(state)
        self.floor = floor
        self._users = OrderedDict(zip(state["users"].tolist(), state["counted"].tolist(), strict=True))
        self._lists.restore(state["lists"].tolist())
        self._former.restore(state.get("former"))

    def _touch(self, trail: list[int], index: int) -> set[int]:
        self.items.touch(index)
        return {index, *self.items.follow(trail, index)}
