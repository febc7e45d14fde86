"""A steady load of inputs whose offline fold does not depend on the order in which topics are read.

Three kinds of users, by what the fold promises: of `steady` ones more events come than a window holds; `repeating` ones
send some events twice, fewer in all than a window; `forgotten` ones are erased now and then.
"""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

from ranker.contracts.clock import now_ms
from tests.support.installation import Installation

_ITEMS = 50
_REPEATING_MOST = 55


class Load(threading.Thread):
    """Sends inputs at a rate until `finish`."""

    def __init__(self, installation: Installation, rate: float, users: int, name: str, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self._producer = installation.producer()
        self._rate = rate
        self._rng = random.Random(seed)
        self._users = [f"{name}-{self._rng.choice(('steady', 'repeating', 'forgotten'))}-{at}" for at in range(users)]
        self._sent_by: dict[str, int] = {}
        self._done = threading.Event()
        self._error: BaseException | None = None
        self.sent = 0

    def run(self) -> None:
        """Lists first, then events, at the rate."""
        try:
            start = time.monotonic()
            while not self._done.is_set():
                due = start + self.sent / self._rate
                if (early := due - time.monotonic()) > 0:
                    self._done.wait(early)
                self._send_one()
                self._producer.poll(0)
        except BaseException as error:
            self._error = error

    def finish(self) -> int:
        """Stop and wait until the broker has everything; returns how many records were sent."""
        self._done.set()
        self.join(60)
        assert self._error is None, self._error
        assert self._producer.flush(60) == 0
        return self.sent

    def _send_one(self) -> None:
        user = self._users[self.sent % len(self._users)] if self.sent < len(self._users) else self._someone()
        if self.sent < len(self._users) or self._rng.random() < 0.05:
            self._send("candidates", user, self._list(user))
        elif "forgotten" in user and self._rng.random() < 0.1:
            self._send("erasures", user, {"user_id": user})
        elif "forgotten" not in user and self._rng.random() < 0.03:
            self._send("users", user, {"user_id": user, "attributes": {"age": self._rng.randrange(20, 60)}})
        else:
            self._send_event(user)

    def _someone(self) -> str:
        while True:
            user = self._rng.choice(self._users)
            if "repeating" not in user or self._sent_by.get(user, 0) < _REPEATING_MOST:
                return user

    def _send_event(self, user: str) -> None:
        topic = self._rng.choice(("clicks", "views", "interactions"))
        event: dict[str, Any] = {"user_id": user, "item_id": f"item-{self._rng.randrange(_ITEMS)}"}
        if topic == "interactions":
            event["action"] = self._rng.choice(("view", "click"))
        if "repeating" in user and self._rng.random() < 0.2:
            event |= {"event_id": f"{user}-{self.sent}", "ts": now_ms()}
            self._send(topic, user, event)
        self._send(topic, user, event)

    def _list(self, user: str) -> dict[str, Any]:
        items = self._rng.sample(range(_ITEMS), 10)
        shown = [{"item_id": f"item-{item}", "score": self._rng.random()} for item in items]
        return {"request_id": f"{user}-{self.sent}", "user_id": user, "items": shown}

    def _send(self, topic: str, user: str, record: dict[str, Any]) -> None:
        self._producer.produce(topic, json.dumps(record).encode(), user)
        self._sent_by[user] = self._sent_by.get(user, 0) + 1
        self.sent += 1
