"""An application that has read the topics' contracts and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka import Consumer, Producer

from online_learning.data import DATASETS
from online_learning.first_model.fit import fit
from tests.support.synthetic import START, write_log
from tests.support.waiting import eventually

LIVERANK = [sys.executable, "-m", "liverank"]


@pytest.fixture(scope="module")
def broker_of_a_worker(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`liverank train`, `liverank topics create` and `liverank worker`, told everything by the environment."""
    folder = tmp_path_factory.mktemp("stranger")
    data, log = DATASETS["trivago"], write_log(folder / "log.parquet", users=20)
    registry = folder / "registry"
    recipe = msgspec.structs.replace(data.recipe, epochs=1)
    fit(data, log, str(registry), until=(START + 90_000) * 1000, recipe=recipe)
    environment = os.environ | {
        "LIVERANK_BROKERS": kafka, "LIVERANK_REGISTRY": str(registry), "LIVERANK_DATA": str(folder / "data"),
        "LIVERANK_READY_FILE": str(folder / "ready"), "LIVERANK_METRICS_PORT": "-1", "LIVERANK_APP": "stranger",
    }  # fmt: skip
    subprocess.run([*LIVERANK, "topics", "create"], env=environment, check=True)
    with (folder / "log").open("wb") as out:
        worker = subprocess.Popen([*LIVERANK, "worker"], env=environment, stdout=out, stderr=out)
    try:
        eventually("the worker is ready", (folder / "ready").exists)
        yield kafka
    finally:
        worker.terminate()
        assert worker.wait(30) == 0, (folder / "log").read_text()[-3000:]


@pytest.mark.timeout(300)
def test_a_client_with_its_own_items_is_served(broker_of_a_worker: str) -> None:
    """Items that no model has seen, lists of 1 to 100 of them, clicks and views with the required fields alone, sent by
    librdkafka with its own partitioner: every list comes back whole, and again after every event."""
    producer = Producer({"bootstrap.servers": broker_of_a_worker})
    consumer = Consumer({"bootstrap.servers": broker_of_a_worker, "group.id": "site", "auto.offset.reset": "earliest"})
    consumer.subscribe(["rankings"])

    def send(topic: str, key: str, record: dict[str, object]) -> None:
        producer.produce(topic, key=key, value=json.dumps(record))

    for at in range(100):
        title, category = f"Lamp number {at}, for a desk", "lamps" if at % 2 else "chairs"
        send("items", f"thing-{at}", {"item_id": f"thing-{at}", "title": title, "category": category})
    for size in (1, 2, 7, 30, 100):
        user = f"visitor-{size}"
        listed = [{"item_id": f"thing-{at}"} for at in range(size)]
        send("candidates", user, {"request_id": f"r{size}", "user_id": user, "items": listed})
        send("clicks", user, {"user_id": user, "item_id": "thing-0"})
        send("views", user, {"user_id": user, "item_id": f"thing-{size - 1}"})
    assert producer.flush(30) == 0

    newest: dict[str, dict[str, object]] = {}

    def all_came() -> bool:
        for message in consumer.consume(1000, 0.5):
            if message.error() is not None or not message.key().startswith(b"visitor-"):
                continue  # other tests' rankings lie on the same topic
            ranking = json.loads(message.value())
            if ranking["revision"] >= newest.get(ranking["user_id"], {"revision": 0})["revision"]:
                newest[ranking["user_id"]] = ranking
        return len(newest) == 5 and all(ranking["revision"] == 3 for ranking in newest.values())

    eventually("every visitor's third revision", all_came)
    consumer.close()
    for size in (1, 2, 7, 30, 100):
        ranking = newest[f"visitor-{size}"]
        assert sorted(line["item_id"] for line in ranking["items"]) == sorted(f"thing-{at}" for at in range(size))
        assert [line["rank"] for line in ranking["items"]] == list(range(1, size + 1))
        assert set(ranking["applied"]) == {"candidates", "clicks", "views"}
        scores = [line["score"] for line in ranking["items"]]
        assert scores == sorted(scores, reverse=True)
