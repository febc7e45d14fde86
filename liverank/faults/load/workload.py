"""A seeded workload whose offline fold does not depend on the order in which topics are read.

Kinds of users, by what the fold promises (docs/topics.md): of `steady` ones more events come than a window holds;
`repeating` ones send some events twice, fewer in all than a window; `forgotten` ones are erased now and then; `curious`
ones look at items that change all the while; `attentive` ones click on lists that were ranked before, by their
`request_id`, so each of their clicks must give its example.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

from liverank.faults.load import poison
from liverank.faults.load.inputs import Planned
from ranker.contracts.topics import (
    CANDIDATES,
    CLICKS,
    ERASURES,
    INTERACTIONS,
    ITEMS,
    TOPIC_OF_ACTION,
    USERS,
    VIEWS,
)

STEADY, REPEATING, FORGOTTEN, CURIOUS, ATTENTIVE = "steady", "repeating", "forgotten", "curious", "attentive"
KINDS_OF_USERS = (STEADY, REPEATING, FORGOTTEN, CURIOUS, ATTENTIVE)
_ITEMS, _LISTED = 50, 10
#: Of users whose inputs the fold knows again, or forgets: so many at most, fewer than a window holds.
_MOST = {REPEATING: 50, FORGOTTEN: 50, ATTENTIVE: 50}
_LATEST_MS = 600_000  # by which an event may be late
_SHORT_MS = 2_000  # how long some lists last
_CHANCES = {"list": 0.05, "erasure": 0.1, "attributes": 0.03, "item": 0.02, "late": 0.1, "repeat": 0.2}


class Workload:
    """The inputs of one stretch of a run. The same seed and name draw the same ones; only times are the clock's."""

    def __init__(self, name: str, seed: int, users: int = 60, *, items: bool = True) -> None:
        """
        Args:
            name: of the stretch, which its users' names begin with.
            seed: of every draw.
            users: how many.
            items: whether items are described, and some of them change; every worker has to know those of `described`.
        """
        self._rng = Random(f"{seed} {name}")
        self._name, self._items = name, items
        kinds = (KINDS_OF_USERS[at % len(KINDS_OF_USERS)] for at in range(users))
        self.users = [f"{name}-{kind}-{at}" for at, kind in enumerate(kinds)]
        self._sent_by: Counter[str] = Counter()
        self._lists: dict[str, list[str]] = {}  # of attentive users: the items of their one list
        self._number = 0

    def opening(self, now: int) -> Iterator[Planned]:
        """A list for every user: what is to be ranked before `following` begins."""
        for user in self.users:
            yield self._list(user, now, f"{user}-first")

    def following(self, now: int) -> Iterator[Planned]:
        """What comes next, one input or a few that belong together.

        Args:
            now: milliseconds since the epoch.
        """
        draw = self._rng.random()
        if self._items and draw < _CHANCES["item"]:
            yield self._changing_item()
            return
        user = self._someone()
        kind, chance = _kind(user), self._rng.random()
        if kind == ATTENTIVE:
            yield self._attentive_click(user, now)
        elif chance < _CHANCES["list"]:
            yield self._list(user, now, f"{user}-{self._number}")
        elif kind == FORGOTTEN and chance < _CHANCES["list"] + _CHANCES["erasure"]:
            yield self._planned(ERASURES, user, {"user_id": user, **self._time(now)})
        elif kind != FORGOTTEN and chance < _CHANCES["list"] + _CHANCES["attributes"]:
            yield self._attributes(user, now)
        else:
            yield from self._events(user, now)

    def poison(self, now: int) -> list[Planned]:
        """What a stranger sends meanwhile: what is refused, what is taken, by every codec."""
        user = f"{self._name}-stranger"
        planned = [*poison.to_be_refused(user, now), *poison.taken(user), *poison.compressed(user)]
        self._rng.shuffle(planned)
        return planned

    def _someone(self) -> str:
        while True:
            user = self._rng.choice(self.users)
            if self._sent_by[user] < _MOST.get(_kind(user), 1 << 30):
                return user

    def _events(self, user: str, now: int) -> Iterator[Planned]:
        topic = self._rng.choice((CLICKS, VIEWS, INTERACTIONS))
        items = "thing" if _kind(user) == CURIOUS and self._rng.random() < 0.5 else "item"
        event: dict[str, Any] = {"user_id": user, "item_id": f"{items}-{self._rng.randrange(_ITEMS)}"}
        if topic == INTERACTIONS:
            event |= {"action": self._rng.choice(tuple(TOPIC_OF_ACTION)), "value": self._rng.randrange(100)}
        event |= self._time(now)
        if _kind(user) == REPEATING and self._rng.random() < _CHANCES["repeat"]:
            event |= {"event_id": f"{user}-{self._number}", "ts": event.get("ts", now)}
            yield self._planned(topic, user, event)
        yield self._planned(topic, user, event)

    def _attentive_click(self, user: str, now: int) -> Planned:
        item, event_id = self._rng.choice(self._lists[user]), f"{user}-{self._number}"
        request = f"{user}-first"
        event = {"user_id": user, "item_id": item, "event_id": event_id, "request_id": request, "ts": now}
        return self._planned(CLICKS, user, event, example=f"{user}:{request}:{event_id}:{item}:click")

    def _attributes(self, user: str, now: int) -> Planned:
        if self._rng.random() < 0.2:
            return self._planned(USERS, user, None)
        attributes = {"age": self._rng.randrange(20, 60)}
        return self._planned(USERS, user, {"user_id": user, "attributes": attributes, **self._time(now)})

    def _list(self, user: str, now: int, request_id: str) -> Planned:
        name = "thing" if _kind(user) == CURIOUS else "item"
        items = [f"{name}-{at}" for at in self._rng.sample(range(_ITEMS), _LISTED)]
        shown = [{"item_id": item, "score": self._rng.random(), "features": self._features()} for item in items]
        listed: dict[str, Any] = {"request_id": request_id, "user_id": user, "items": shown}
        if _kind(user) == ATTENTIVE:
            self._lists[user] = items
        elif self._rng.random() < 0.2:
            listed |= {"ts": now, "expires_at": now + self._rng.randrange(_SHORT_MS)}
        return self._planned(CANDIDATES, user, listed)

    def _features(self) -> dict[str, Any]:
        return {} if self._rng.random() < 0.2 else {"price": self._rng.randrange(1, 500)}

    def _changing_item(self) -> Planned:
        """Items of which the lists that are compared know nothing; those that they know come again as they are."""
        at = self._rng.randrange(_ITEMS)
        if self._rng.random() < 0.2:
            return _item(f"item-{at}", at)
        if self._rng.random() < 0.2:
            return Planned(topic=ITEMS, key=f"thing-{at}".encode(), value=None)
        return _item(f"thing-{at}", self._rng.randrange(1000))

    def _time(self, now: int) -> dict[str, Any]:
        """None, the present, or a late one."""
        draw = self._rng.random()
        if draw < _CHANCES["late"]:
            return {"ts": now - self._rng.randrange(_LATEST_MS)}
        return {"ts": now} if draw < 0.5 else {}

    def _planned(self, topic: str, user: str, body: dict[str, Any] | None, example: str | None = None) -> Planned:
        self._sent_by[user] += 1
        self._number += 1
        value = None if body is None else json.dumps(body).encode()
        return Planned(topic=topic, key=user.encode(), value=value, example=example)


def described() -> Iterator[Planned]:
    """The items of the lists that are compared: what every worker has to know before the first of them."""
    return (_item(f"item-{at}", at) for at in range(_ITEMS))


def user_kind(user_id: str) -> str:
    """Which kind of user a user of a workload is."""
    return user_id.split("-")[-2] if user_id.count("-") >= 2 else ""


_kind = user_kind


def _item(name: str, number: int) -> Planned:
    body = {"item_id": name, "title": f"thing {number}", "category": f"kind {number % 5}", "numeric": {"price": number}}
    return Planned(topic=ITEMS, key=name.encode(), value=json.dumps(body).encode())
