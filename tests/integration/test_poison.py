"""What strangers send costs itself alone: a worker and a trainer go on, and the dead letters are those deserved."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from liverank.settings import Settings, changed
from online_learning.trainer.checkpoint import newest_checkpoint
from ranker.contracts.clock import now_ms
from ranker.contracts.records import Example
from ranker.contracts.schema import Action, CandidateFeature, FeatureSchema, Normalise
from ranker.state.codec import decode_row
from streams.kafka.connection import partition_of
from tests.support.installation import Installation, Worker
from tests.support.tiny import ENCODER, tiny_bundle
from tests.support.trainer_process import Process
from tests.support.waiting import eventually

PARTITION = 1
SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(CandidateFeature(name="price", normalise=(Normalise.NONE, Normalise.LIST)),),
    item_numeric=("price",),
    window=8,
)
DEEP = b"[" * 1500 + b"]" * 1500
#: topic, value, further arguments of the producer, the reason of its dead letter
REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("clicks", {"item_id": "a", "value": 1.7976931348623157e308}, {}, "invalid"),
    ("clicks", {"item_id": "a", "value": 1e39}, {}, "invalid"),
    ("clicks", {"item_id": "a", "ts": 10**25}, {}, "invalid"),
    ("clicks", b'{"user_id":"%s","item_id":"a","debug":' + DEEP + b"}", {}, "invalid"),
    ("clicks", b'{"user_id":"%s","item_id":"\\ud800"}', {}, "not-json"),
    ("clicks", {"item_id": "a"}, {"timestamp": now_ms() // 1000}, "past-timestamp"),
    ("candidates", {"request_id": "k", "k": 10**30, "items": [{"item_id": "a"}]}, {}, "invalid"),
    ("candidates", {"request_id": "t", "items": [{"item_id": "a"}]}, {"ahead": 1_800_000}, "future-timestamp"),
    ("erasures", {}, {"ahead": 3_000_000}, "future-timestamp"),
]
REFUSED_ITEMS: list[tuple[bytes, bytes | None, str]] = [
    (b"p", b'{"item_id":"p","published_at":9999999999999999999999}', "invalid"),
    (b"p", b'{"item_id":"p","published_at":1763000000}', "past-timestamp"),
    (b"p", b'{"item_id":"p","published_at":1763000000000000}', "future-timestamp"),
    (b"p", b'{"item_id":"p","numeric":{"price":1e39}}', "invalid"),
    (b"p", b'{"item_id":"p","x":' + DEEP + b"}", "invalid"),
    (b"\x00\xc8", None, "bad-key"),
]
#: Extreme and within the bounds, or not as declared and meant all the same.
TAKEN: list[tuple[str, Any]] = [
    ("clicks", {"item_id": "a", "value": 3.4028235e38}),
    ("clicks", {"item_id": "a", "event_id": "", "request_id": "", "position": -1}),
    (
        "candidates",
        {
            "request_id": "wide",
            "items": [
                {"item_id": f"i{at}", "features": {f"f{at}-{name}": at for name in range(3)}} for at in range(1000)
            ],
        },
    ),
    ("candidates", {"request_id": "odd", "items": [{"item_id": "a", "features": {"price": True, "x": "red"}}]}),
    (
        "candidates",
        {
            "request_id": "large",
            "items": [{"item_id": "a", "features": {"price": 3.4e38}}, {"item_id": "b", "features": {"price": -3e38}}],
        },
    ),
    ("clicks", {"item_id": "a", "value": -3.4e38}),
    ("clicks", {"item_id": "a", "ts": 0, "value": "3.5", "context": {"n": -1e300, "m": {}}}),
    (
        "candidates",
        {"request_id": "meant", "k": "2", "items": [{"item_id": "a", "score": 1e39, "features": {"price": 1e39}}]},
    ),
    ("users", {"attributes": {"age": 1e39, "home": []}}),
]


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics and a first model; a stored row is none."""
    folder = tmp_path_factory.mktemp("poisoned")
    settings = changed(
        Settings(), brokers=kafka, registry=str(folder / "registry"), app="poisoned", model="poisoned",
        metrics_port=-1, session_timeout_s=6.0, trainer_data=folder / "trainer", trainer_metrics_port=-1,
        provider="cpu", bundle_s=3600.0, train_ms=100, ready_file=folder / "trainer-ready",
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    tiny_bundle(folder / "registry", SCHEMA, model="poisoned")
    try:
        yield made
    finally:
        made.close()


def users(installation: Installation, count: int) -> list[str]:
    """Names whose inputs lie in one partition."""
    partitions = installation.settings.broker.partitions
    names = (f"user-{number}" for number in range(1000))
    return [name for name in names if partition_of(name.encode(), partitions) == PARTITION][:count]


def show(installation: Installation, user: str, request_id: str) -> None:
    """A list for a user."""
    items = [{"item_id": item, "features": {"price": 3.0}} for item in "abc"]
    installation.send("candidates", user, {"user_id": user, "request_id": request_id, "items": items})


def click(installation: Installation, user: str, event_id: str) -> None:
    """A click of a user, and the ranking that comes of it."""
    installation.send("clicks", user, {"user_id": user, "item_id": "b", "event_id": event_id})
    eventually(f"{event_id} is ranked", lambda: any(one.cause.event_id == event_id for one in installation.rankings()))


def test_nothing_that_is_sent_ends_a_process(installation: Installation) -> None:
    """Every kind of poison into every topic; other users of the partition are ranked, and learned from."""
    stranger, other, damaged = users(installation, 3)
    changelog = installation.settings.broker.changelog
    installation.send(changelog, damaged, b"\x93garbage", partition=PARTITION)
    worker = installation.worker("worker").start()
    trainer = Process(installation.settings, installation.folder)
    try:
        poison_all(installation, worker, trainer, (stranger, other, damaged))
    finally:
        trainer.kill()


def ranked(installation: Installation, request_id: str) -> None:
    """Wait for a ranking of a list."""
    eventually(f"{request_id} is ranked", lambda: any(one.request_id == request_id for one in installation.rankings()))


def poison_all(installation: Installation, worker: Worker, trainer: Process, named: tuple[str, str, str]) -> None:
    """Send everything, and see what comes of it."""
    stranger, other, damaged = named
    worker.ready()
    trainer.ready()
    for user in (stranger, other, damaged):
        show(installation, user, "first")
    click(installation, other, "before")
    click(installation, damaged, "of the damaged row")

    deserved = send_refused(installation, stranger)
    send_compressed(installation, stranger)
    for topic, value in TAKEN:
        installation.send(topic, stranger, {"user_id": stranger, **value})
        if topic == "candidates":  # of lists that wait together those that the next ones push out are not ranked
            ranked(installation, value["request_id"])
    click(installation, stranger, "after extremes")
    click(installation, other, "after poison")

    kept = send_control(installation)
    send_vectors(installation)
    bad = send_examples(installation, other)
    send_transactions(installation, stranger)
    show(installation, other, "last")
    click(installation, other, "at last")
    installation.all_handled()

    assert not worker.ended, worker.log[-3000:]
    assert "is set aside" in worker.log
    assert kept.exists()
    letters = {(one.topic, one.partition, one.offset): one.reason for one in installation.dead_letters()}
    assert letters == deserved
    shown = {one.request_id for one in installation.rankings()}
    assert {"wide", "odd", "large", "committed"} <= shown
    assert "aborted" not in shown
    row = installation.stored_rows()[PARTITION, stranger.encode()]
    assert row.candidates is not None
    assert row.candidates.request_id == "committed"
    assert trainer.stop() == 0, (installation.folder / "trainer.log").read_text()[-3000:]
    state = newest_checkpoint(installation.settings.trainer.data)
    assert state is not None
    good = {example.example_id for example in examples(installation)} - bad
    assert {f"{other}:last:at last:b:click", f"{stranger}:large:after extremes:b:click"} & good
    assert state.facts["trained"] == len(good)


def send_refused(installation: Installation, user: str) -> dict[tuple[str, int, int], str]:
    """What must become a dead letter: place -> reason."""
    deserved = {}
    for topic, value, arguments, reason in REFUSED:
        stamp = {"timestamp": now_ms() + arguments["ahead"]} if "ahead" in arguments else arguments
        if isinstance(value, bytes):
            body: Any = value.replace(b"%s", user.encode())
        else:
            body = {"user_id": user, **value}
        deserved[topic, *installation.send(topic, user, body, **stamp)] = reason
    for key, body, reason in REFUSED_ITEMS:
        deserved["items", *installation.send("items", key, body)] = reason
    return deserved


def send_compressed(installation: Installation, user: str) -> None:
    """Each codec, to a topic of the consumer group and to one that all follow."""
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        where = {"bootstrap.servers": installation.settings.broker.addresses, "partitioner": "murmur2_random"}
        producer = Producer({**where, "compression.type": codec})
        event = {"user_id": user, "item_id": "a", "event_id": codec, "text": "again and " * 200}
        producer.produce("clicks", json.dumps(event), user)
        producer.produce("items", json.dumps({"item_id": codec, "text": "again and " * 200}), codec)
        assert producer.flush(30) == 0


def send_control(installation: Installation) -> Path:
    """Names that lead out of the folders; what lies there."""
    data = installation.folder / "worker" / "data"
    data.mkdir(parents=True, exist_ok=True)
    kept = data / "poison" / "kept"
    kept.parent.mkdir()
    kept.write_text("not ours")
    for version in ("../poison", "../../poison", "..", str(kept.parent), "a\n"):
        update = {"model": "poisoned", "version": version, "sha256": "00", "stage": "promoted", "ts": now_ms()}
        installation.send("model-updates", "poisoned", update)
        delta = {"model": "poisoned", "base": version, "sequence": 1, "learned_until": 1, "rows": {"x": "!"}}
        installation.send("model-deltas", "poisoned", delta)
    for topic in ("model-updates", "model-deltas"):
        installation.send(topic, b"\xff", b'{"x":' + DEEP + b"}")
        installation.send(topic, b"x", None)
    return kept


def send_vectors(installation: Installation) -> None:
    """Odd, wide, long, infinite, of another width, of other encoders."""
    numbers = {"odd": b"abc", "narrow": bytes(2), "infinite": b"\x00\x7c" * 24, "long": bytes(4 << 20), "none": b""}
    for name, vector in numbers.items():
        for encoder in (ENCODER, "other", "../x"):
            record = {"item_id": "a", "encoder": encoder, "text_hash": name}
            installation.send("item-vectors", "a", {**record, "vector": base64.b64encode(vector).decode()})
    installation.send("item-vectors", b"\xff\xfe", b"[")


def examples(installation: Installation) -> list[Example]:
    """Those that decode."""
    found = []
    for message in installation.read("examples"):
        try:
            found.append(msgspec.json.decode(message.value() or b"", type=Example))
        except (msgspec.DecodeError, RecursionError):
            continue
    return found


def send_examples(installation: Installation, user: str) -> set[str]:
    """Examples that cannot be learned from, in the midst of good ones; their ids."""
    eventually("there is an example", lambda: any(one.outcome for one in examples(installation)))
    good = next(one for one in examples(installation) if one.outcome and decode_row(one.state).candidates)
    change = msgspec.structs.replace
    assert good.outcome is not None
    bad = [
        change(good, state=good.state[:-7]),
        change(good, state=b"\xffgarbage"),
        change(good, items=good.items[:1]),
        change(good, items=[change(one, statistics=[-1.0, 1.0]) for one in good.items]),
        change(good, outcome=change(good.outcome, item_id="foreign")),
        change(good, outcome=change(good.outcome, action="view")),
        change(good, outcome=change(good.outcome, action="fly")),
        change(good, ts=now_ms() + 10**9),
    ]
    bad = [change(one, example_id=f"bad-{number}") for number, one in enumerate(bad)]
    for one in bad:
        installation.send("examples", user, msgspec.json.encode(one))
    for body in (None, b"[", b'{"x":' + DEEP + b"}", b"\xff"):
        installation.send("examples", user, body)
    return {one.example_id for one in bad}


def send_transactions(installation: Installation, user: str) -> None:
    """Lists of transactions: an aborted one, one that is committed, and an aborted one at the end."""
    for name in ("aborted", "committed", "aborted"):
        where = {"bootstrap.servers": installation.settings.broker.addresses, "partitioner": "murmur2_random"}
        producer = Producer({**where, "transactional.id": f"poison-{name}"})
        producer.init_transactions(30)
        producer.begin_transaction()
        listed = {"user_id": user, "request_id": name, "items": [{"item_id": name}]}
        producer.produce("candidates", json.dumps(listed), user)
        producer.flush(30)
        if name == "aborted":
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
