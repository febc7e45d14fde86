"""A gateway whose broker stands still or is dead, while applications go on sending."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from liverank.local.broker import Broker
from liverank.settings import Settings, changed
from ranker.contracts.clock import now_ms
from ranker.contracts.records import Cause, Ranking
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import Installation
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def click(name: str, user: str = "u") -> dict[str, Any]:
    """A click of this name."""
    return {"user_id": user, "item_id": "i", "action": "click", "event_id": name}


def test_a_broker_that_is_away_costs_nothing_that_was_accepted(own_kafka: Broker, tmp_path_factory: Any) -> None:
    """While it stands still or is dead the answer is 503 and says when to ask again; what was accepted is there after,
    and rankings are followed again without a new start."""
    folder = tmp_path_factory.mktemp("away")
    settings = changed(
        Settings(), brokers=own_kafka.address, registry=str(folder / "registry"), gateway_deliver_ms=1000
    )
    installation = Installation(settings, folder)
    installation.create_topics()
    process = GatewayProcess(settings, folder / "gateway").start().ready()
    accepted: list[str] = []

    def sent() -> bool:
        name = uuid.uuid4().hex
        answered = process.ask("POST", "/v1/events", [click(name), click(name, "v")])
        if answered.status == 200:
            accepted.append(name)
        else:
            assert answered.status == 503, answered.json
            assert int(answered.headers["Retry-After"]) > 0 and answered.json["error"]
        return answered.status == 200

    try:
        eventually("it is taken", sent)
        own_kafka.pause()
        assert not sent()
        own_kafka.resume()
        eventually("it is taken again", sent)
        own_kafka.kill()
        assert not sent() and not sent()
        own_kafka.start()
        eventually("it is taken once more", sent)
        names = [json.loads(message.value())["event_id"] for message in installation.read("clicks")]
        assert all(names.count(name) == 2 for name in accepted)
        cause = Cause(kind="click", topic="clicks", partition=0, offset=1, ts=now_ms())
        ranking = Ranking(
            ranking_id="a", user_id="u", revision=1, applied={"clicks": 1}, request_id="r", ts=now_ms(), model="m",
            cause=cause, items=[],
        )  # fmt: skip
        installation.send("rankings", "u", msgspec.json.encode(ranking))
        found = eventually(
            "it is followed", lambda: (a := process.ask("GET", "/v1/users/u/ranking")).status == 200 and a
        )
        assert found.json["ranking_id"] == "a"
        assert process.stop() == 0
    finally:
        process.kill()


def test_a_broker_that_stands_still_for_ten_seconds_loses_nothing(own_kafka: Broker, tmp_path_factory: Any) -> None:
    """Applications go on sending all the while, and send again what was refused: each event that was accepted is there,
    and each that any application sent is accepted in the end."""
    folder = tmp_path_factory.mktemp("still")
    installation = Installation(changed(Settings(), brokers=own_kafka.address, registry=str(folder / "none")), folder)
    installation.create_topics()
    process = GatewayProcess(installation.settings, folder / "gateway").start().ready()
    accepted: set[str] = set()
    refused: set[str] = set()
    over = threading.Event()

    def application(number: int) -> None:
        """Sends events one after the other, each until it is accepted."""
        for at in itertools.count():
            name = f"still-{number}-{at}"
            while (answered := process.ask("POST", "/v1/events", click(name))).status != 200:
                assert answered.status == 503 and int(answered.headers["Retry-After"]) > 0, answered.json
                refused.add(name)
            accepted.add(name)
            if over.is_set():
                return

    try:
        with ThreadPoolExecutor(8) as pool:
            applications = [pool.submit(application, number) for number in range(8)]
            eventually("events come", lambda: len(accepted) > 100)
            own_kafka.pause()
            time.sleep(10)  # the fault itself
            before = len(accepted)
            own_kafka.resume()
            eventually("events come again", lambda: len(accepted) > before + 100)
            over.set()
            assert [done.result() for done in applications] == [None] * 8
        assert refused, "deliver_ms is 5 s: some were told to come again"
        stored = {json.loads(message.value())["event_id"] for message in installation.read("clicks")}
        assert {name for name in stored if name.startswith("still-")} == accepted
        assert process.stop() == 0
    finally:
        over.set()
        process.kill()
