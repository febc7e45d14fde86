"""Worker and trainer on one broker: what people click reaches the rows and the weights that rank them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from liverank.settings import Settings, changed
from online_learning.trainer import checkpoint
from online_learning.trainer.checkpoint import load_checkpoint, newest_checkpoint
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.records import ModelDelta
from ranker.registry.bundle import registry_versions
from tests.support import stream
from tests.support.installation import Installation, read_topic
from tests.support.tiny import tiny_bundle
from tests.support.trainer_process import Process
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics, all of them under a prefix, and a first model."""
    folder = tmp_path_factory.mktemp("trained")
    settings = changed(Settings(),
        brokers=kafka, registry=str(folder / "registry"), app="trained", model="trained", metrics_port=-1,
        session_timeout_s=6.0, trainer_data=folder / "trainer", trainer_metrics_port=-1, provider="cpu",
        topics_prefix="shop.", bundle_s=3.0, gate_least=0, gate_margin=9.0, train_ms=100,
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    tiny_bundle(folder / "registry", stream.SCHEMA, model="trained")
    try:
        yield made
    finally:
        made.close()


def test_clicks_reach_rows_and_weights(installation: Installation, tmp_path: Path) -> None:
    """Versions that learned from the clicks serve, deltas follow each other, an erased user leaves the memory."""
    settings = installation.settings
    installation.worker("worker").start()
    ready = changed(settings, ready_file=tmp_path / "ready")
    trainer = Process(ready, tmp_path)
    installation.workers[0].ready()
    trainer.ready()
    clicked = _click_for(installation, 25.0)
    first = registry_versions(settings.registry.address, "trained")[0]

    def models() -> list[str]:
        return list(dict.fromkeys(ranking.model for ranking in installation.rankings()))

    installation.all_handled()
    eventually("versions of the trainer rank", lambda: len([model for model in models() if model != first]) >= 2)
    deltas = [
        msgspec.json.decode(message.value(), type=ModelDelta)
        for message in read_topic(settings.broker.addresses, "shop.model-deltas", 1)
    ]
    deltas = [delta for delta in deltas if delta.model == "trained"]
    waits = [_first_after(deltas, ts) - ts for ts in clicked if ts < deltas[-1].learned_until]
    print(f"from a click to the delta that learned from it: p50 {np.median(waits) / 1000:.2f} s of {len(waits)}")
    assert np.median(waits) < 5000
    eventually("a checkpoint remembers the user", lambda: _remembers(settings, b"user-1"), 60)
    installation.send("erasures", "user-1", {"user_id": "user-1"})
    eventually("the erased user is in no checkpoint", lambda: not _remembers(settings, b"user-1"), 60)
    assert trainer.stop() == 0, (tmp_path / "trainer.log").read_text()[-3000:]
    state = newest_checkpoint(settings.trainer.data)
    assert state is not None
    distinct = {message.value() for message in installation.read("examples")}
    assert 0 < state.facts["trained"] <= len(distinct)
    assert {name.rpartition("-")[0] for name in state.facts["offsets"]} == {"shop.examples", "shop.erasures"}
    assert hash_id("user-1") in state.arrays["forgotten.users"].tolist()


def _click_for(installation: Installation, seconds: float) -> list[int]:
    """Lists and clicks at about 20 events/s; when each click happened."""
    rng, end, clicked = random.Random(0), time.monotonic() + seconds, []
    producer, number = installation.producer(), 0
    while time.monotonic() < end:
        number += 1
        user = f"user-{rng.randrange(20)}"
        items = [f"item-{item}" for item in rng.sample(range(50), 6)]
        made = {"request_id": f"r{number}", "user_id": user, "items": [{"item_id": item} for item in items]}
        producer.produce("shop.candidates", msgspec.json.encode(made), user)
        producer.flush(10)
        time.sleep(0.05)
        clicked.append(now_ms())
        click = {"user_id": user, "item_id": rng.choice(items), "event_id": f"c{number}", "ts": clicked[-1]}
        producer.produce("shop.clicks", msgspec.json.encode(click), user)
        producer.flush(10)
        time.sleep(0.05)
    return clicked


def _first_after(deltas: list[ModelDelta], ts: int) -> int:
    """When the first delta was made that had learned what happened then."""
    return next(delta.sequence for delta in deltas if delta.learned_until >= ts)


def _remembers(settings: Settings, user: bytes) -> bool:
    """Whether any checkpoint on disk holds an example of the user."""
    found = list(settings.trainer.data.glob("checkpoint-*"))
    try:
        replays = [load_checkpoint(path).arrays["replay"].tobytes() for path in found]
    except checkpoint.CheckpointError:  # pruned under our eyes
        return True
    return any(b"\xa6" + user + b"\xcf" in replay for replay in replays)  # MessagePack: a string of 6, then a time
