"""From an empty folder to lists that learn: `liverank up`, and an application that speaks Kafka alone."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from tests.support.waiting import eventually

LISTS, ITEMS, LENGTH, VISITORS = 500, 40, 10, 50
_RANKING_S = 90.0


class Shop:
    """A site that knows the topics' records and nothing else of liverank."""

    def __init__(self, brokers: str) -> None:
        self.producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.rankings = Consumer({"bootstrap.servers": brokers, "group.id": "shop", "auto.offset.reset": "earliest"})
        self.rankings.subscribe(["rankings"])
        self.newest: dict[str, dict] = {}

    def send(self, topic: str, user: str, **record: object) -> None:
        """Send a record and hand it to the broker."""
        self.producer.produce(topic, key=user, value=json.dumps({"user_id": user, **record}))
        self.producer.poll(0)

    def ranking_of(self, user: str, request_id: str) -> dict:
        """The first ranking of a list."""
        end = time.monotonic() + _RANKING_S
        while time.monotonic() < end:
            found = self.newest.get(user)
            if found is not None and found["request_id"] == request_id:
                return found
            for message in self.rankings.consume(100, 0.05):
                if message.error() is None:
                    ranking = json.loads(message.value())
                    if ranking["revision"] >= self.newest.get(ranking["user_id"], {"revision": 0})["revision"]:
                        self.newest[ranking["user_id"]] = ranking
        raise AssertionError(f"no ranking of {request_id} within {_RANKING_S:.0f} s")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """`liverank up --headless` in an empty folder: the broker's address, and the folder. Ctrl-C ends it in order."""
    argv = [sys.executable, "-m", "liverank", "up", str(tmp_path), "--headless", "--port", "0"]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        found = eventually("the broker's address", lambda: re.search(r"broker: (\S+:\d+)", _log(tmp_path)), 120)
        yield found[1], tmp_path
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
    assert status == 0, _log(tmp_path)[-3000:]
    assert "Traceback" not in _log(tmp_path)


def _log(folder: Path) -> str:
    return (folder / "up.log").read_text(errors="replace")


def reciprocal_rank(order: list[str], chosen: str) -> float:
    """1 / its place, from 1."""
    return 1 / (order.index(chosen) + 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_nothing_to_lists_that_learn(installation: tuple[str, Path]) -> None:
    """Rankings from the first list on; after 500 lists with clicks by a hidden taste the newest lists are better than
    as shown, and another version serves than at the start. No item was ever described.
    """
    shop, random_, taste = Shop(installation[0]), random.Random(0), random.Random(1)
    worth = {f"thing-{number}": taste.random() for number in range(ITEMS)}
    ranks: list[tuple[float, float]] = []
    models: list[str] = []
    for number in range(LISTS):
        user, request_id = f"visitor-{number % VISITORS}", f"list-{number}"
        shown = random_.sample(sorted(worth), LENGTH)
        chosen = max(shown, key=lambda item: worth[item] + 0.1 * random_.random())
        shop.send("candidates", user, request_id=request_id, items=[{"item_id": item} for item in shown])
        ranking = shop.ranking_of(user, request_id)
        order = [line["item_id"] for line in ranking["items"]]
        assert sorted(order) == sorted(shown)
        models.append(ranking["model"])
        ranks.append((reciprocal_rank(order, chosen), reciprocal_rank(shown, chosen)))
        shop.send("views", user, item_id=random_.choice(shown), request_id=request_id)
        shop.send("clicks", user, item_id=chosen, request_id=request_id)
        time.sleep(0.05)  # a site's people are not all there at once: the pace is part of what is asked
    assert shop.producer.flush(30) == 0
    shop.rankings.close()
    newest = ranks[-150:]
    ours, as_shown = (sum(pair[at] for pair in newest) / len(newest) for at in (0, 1))
    assert ours > as_shown + 0.05, (ours, as_shown)
    assert models[-1] != models[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_dies_is_started_again(installation: tuple[str, Path]) -> None:
    """kill -9 of the worker: `up` says why it ended, starts another, and lists are ranked again."""
    shop, (_, folder) = Shop(installation[0]), installation
    address = eventually("the page's address", lambda: re.search(r"page: (http://\S+)", _log(folder)))[1]
    with urllib.request.urlopen(f"{address}/ready", timeout=30) as answer:  # noqa: S310  # of this machine
        assert answer.status == 200
    shop.send("candidates", "u", request_id="before", items=[{"item_id": "a"}, {"item_id": "b"}])
    assert shop.ranking_of("u", "before")["revision"] == 1
    pid = int((folder / ".liverank" / "worker" / "ready").read_text())
    subprocess.run(["/bin/kill", "-9", str(pid)], check=True)
    eventually("it says so", lambda: "worker ended (status -9" in _log(folder))
    shop.send("candidates", "u", request_id="after", items=[{"item_id": "a"}, {"item_id": "b"}])
    assert shop.ranking_of("u", "after")["revision"] == 2
    assert "worker is started again" in _log(folder)
