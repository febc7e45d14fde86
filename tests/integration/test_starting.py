"""How a worker starts, and how it ends where it cannot go on: one line that says why."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from liverank.settings import Settings, changed
from ranker.contracts.clock import now_ms
from ranker.contracts.schema import FeatureSchema
from ranker.registry.bundle import registry_versions
from ranker.starter.bundle import starter_version
from streams.kafka.connection import partition_of
from tests.support.installation import Installation, Worker
from tests.support.tiny import tiny_bundle
from tests.support.trainer_process import Process
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one bundle."""
    folder = tmp_path_factory.mktemp("published")
    tiny_bundle(folder)
    return folder


@pytest.fixture
def bare(kafka: str, tmp_path: Path) -> Installation:
    """An installation that has neither topics nor a bundle."""
    name = f"starting-{tmp_path.name}"
    return Installation(
        changed(Settings(), brokers=kafka, registry=str(tmp_path / "registry"), app=name, metrics_port=-1), tmp_path
    )


def ends_with(worker: Worker) -> str:
    """The last line of a worker that ends by itself with status 1."""
    assert worker.process is not None
    assert worker.process.wait(60) == 1, worker.log
    critical = [line for line in worker.log.splitlines() if "CRITICAL" in line]
    assert len(critical) == 1, worker.log
    assert "Traceback" not in worker.log, worker.log
    return critical[0]


def test_it_serves_the_starter_where_there_is_no_bundle(bare: Installation) -> None:
    """The registry holds it from then on, a second worker takes it, and a list is ranked from its first event on."""
    bare.create_topics()
    version = starter_version(FeatureSchema())
    first = bare.worker("first").start().ready()
    try:
        assert f"the starter {version} serves" in first.log
        second = bare.worker("second").start().ready()
        assert f"model {version} serves" in second.log
        assert registry_versions(bare.settings.registry.address, "default") == [version]
        items = [{"item_id": f"item-{at}"} for at in range(8)]
        bare.send("candidates", "u", {"user_id": "u", "request_id": "r", "items": items})
        bare.send("clicks", "u", {"user_id": "u", "item_id": "item-6"})
        bare.all_handled()
        rankings = [ranking for ranking in bare.rankings() if ranking.user_id == "u"]
        assert {ranking.model for ranking in rankings} == {version}
        newest = max(rankings, key=lambda ranking: ranking.revision)
        assert sorted(line.item_id for line in newest.items) == sorted(item["item_id"] for item in items)
        for worker in (first, second):
            worker.stop()
    finally:
        bare.close()


def test_told_so_it_waits_for_the_first_bundle_and_says_so(bare: Installation, registry: Path) -> None:
    """Worker and training may start in any order."""
    bare.create_topics()
    worker = bare.worker("waits", starter=False).start()
    try:
        eventually("it says what it waits for", lambda: "waiting for the first bundle of model 'default'" in worker.log)
        shutil.copytree(registry / "default", bare.folder / "registry" / "default")
        worker.ready()
        worker.stop()
    finally:
        bare.close()


def test_it_ends_in_order_while_it_waits(bare: Installation) -> None:
    """Nothing to finish: it ends at once."""
    bare.create_topics()
    worker = bare.worker("waits", starter=False).start()
    eventually("it says what it waits for", lambda: "waiting for the first bundle" in worker.log)
    assert worker.stop() <= 5.0


def test_it_ends_in_order_while_it_starts(bare: Installation, registry: Path) -> None:
    """Also before it has joined the group."""
    bare.create_topics()
    shutil.copytree(registry / "default", bare.folder / "registry" / "default")
    worker = bare.worker("starts").start()
    eventually("it has begun to start", lambda: "the catalogue holds" in worker.log)
    assert worker.stop() <= 5.0


def test_topics_that_are_missing_are_named(bare: Installation) -> None:
    """All of them once, with the command that makes them; of a trainer those that it reads and writes."""
    worker = bare.worker("no-topics", topics_prefix="no.").start()
    assert re.search(
        r"the topics no\.clicks, .*-changelog do not exist; `liverank topics create` makes them$", ends_with(worker)
    )
    own = {"ready_file": bare.folder / "ready", "trainer_metrics_port": -1, "topics_prefix": "no."}
    ended = Process(changed(bare.settings, **own), bare.folder).ended()
    assert re.search(r"the trainer ends: the topics no\.examples, .* do not exist; `liverank topics create` mak", ended)


def test_more_partitions_under_a_running_worker_are_named(bare: Installation, registry: Path) -> None:
    """A user's inputs would go to partitions of which nobody holds the row: the worker ends, and says which topic."""
    own = Installation(changed(bare.settings, topics_prefix="grown."), bare.folder)
    own.create_topics()
    shutil.copytree(registry / "default", bare.folder / "registry" / "default")
    worker = own.worker("grown").start().ready()
    admin = AdminClient({"bootstrap.servers": own.settings.broker.addresses})
    admin.create_partitions([NewPartitions("grown.clicks", 7)], operation_timeout=30)["grown.clicks"].result(30)
    assert re.search(r"the topic grown\.clicks has 7 partitions and must have 4", ends_with(worker))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.0, r"session timeout of 1 s: LIVERANK_SESSION_TIMEOUT_S must lie between its group\.min\.session\.timeout"),
        (3000.0, r"LIVERANK_SESSION_TIMEOUT_S, and that is longer than the broker's transaction\.max\.timeout\.ms"),
    ],
)
def test_a_session_timeout_that_no_broker_takes_is_named(
    bare: Installation, registry: Path, seconds: float, said: str
) -> None:
    """Nobody would ever get a partition: the worker ends, and says what to set."""
    bare.create_topics()
    shutil.copytree(registry / "default", bare.folder / "registry" / "default")
    assert re.search(said, ends_with(bare.worker("session", session_timeout_s=seconds).start()))


def test_it_ends_at_once_while_nobody_answers(bare: Installation) -> None:
    """A worker that waits for a broker which says nothing, a trainer that waits for such a registry."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        worker = bare.worker("waits", brokers=address).start()
        held = [silent.accept()]  # to drop a connection is an answer
        assert worker.stop() <= 5.0
        bare.create_topics()
        own = {"ready_file": bare.folder / "ready", "trainer_metrics_port": -1, "trainer_data": bare.folder / "trainer"}
        trainer = Process(changed(bare.settings, registry=f"ftp://{address}/models", **own), bare.folder)
        held.append(silent.accept())
        assert trainer.stop(5.0) == 0
        assert "Traceback" not in trainer.log


def test_a_broker_that_does_not_answer_is_named(bare: Installation) -> None:
    """By its address."""
    worker = bare.worker("no-broker", brokers="127.0.0.1:1").start()
    assert "no Kafka broker answers at 127.0.0.1:1" in ends_with(worker)


def test_a_bundle_that_was_changed_does_not_serve(bare: Installation, registry: Path) -> None:
    """Its hash says so."""
    bare.create_topics()
    shutil.copytree(registry, bare.folder / "registry")
    (graph,) = (bare.folder / "registry").glob("default/*/score.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    assert "was changed" in ends_with(bare.worker("bad-bundle").start())


def test_rows_of_version_1_are_taken_over(bare: Installation, registry: Path) -> None:
    """A worker finds rows as earlier releases wrote them in its changelog: the next event ranks the list, the row is
    stored in pieces, and what was applied is not applied again."""
    bare.create_topics()
    shutil.copytree(registry / "default", bare.folder / "registry" / "default")
    now, partition = now_ms(), partition_of(b"earlier", bare.settings.broker.partitions)
    whole = [{"clicks": 0}, 5, 0, b"", b"", 0, [now - 1000, "r", None, {}, ["item-1", "item-2"], [], b""], {"n": 1.0}]
    producer = bare.producer()
    stored = b"\x01" + msgspec.msgpack.encode(whole)
    producer.produce(bare.settings.broker.changelog, stored, b"earlier", partition)
    assert producer.flush(30) == 0
    worker = bare.worker("worker").start().ready()
    try:
        bare.send("views", "earlier", {"user_id": "earlier", "item_id": "item-2", "ts": now})
        bare.all_handled()
        worker.stop()
    finally:
        bare.close()
    (row,) = (row for key, row in bare.stored_rows().items() if key[1] == b"earlier")
    assert (row.revision, row.count, row.attributes, row.epoch) == (6, 1, {"n": 1.0}, 0)
    assert [listed.item_ids for listed in row.current] == [("item-1", "item-2")]
    ranking = [one for one in bare.rankings() if one.user_id == "earlier"][-1]
    assert (ranking.revision, ranking.request_id, ranking.applied["clicks"]) == (6, "r", 0)


def test_a_topic_made_anew_is_read_from_its_beginning(bare: Installation, registry: Path) -> None:
    """Made while the worker is away, and while it runs, each time with more records than before, on the same item: none
    passes for a repeat, the last ranking knows of all, and revisions only grow."""
    bare.create_topics()
    shutil.copytree(registry / "default", bare.folder / "registry" / "default")
    worker = bare.worker("worker").start().ready()
    try:
        bare.send("candidates", "anew", {"user_id": "anew", "request_id": "r", "items": [{"item_id": "item-1"}]})
        click_often(bare, 3)
        bare.all_handled()
        worker.stop()
        make_anew(bare, "clicks")
        click_often(bare, 5)
        worker.start().ready()
        eventually("all clicks so far are counted", lambda: count_of(bare, "anew") == 3 + 5)
        make_anew(bare, "clicks")
        click_often(bare, 9, named="running")
        eventually("all clicks are counted", lambda: count_of(bare, "anew") == 3 + 5 + 9)
        bare.all_handled()
        assert worker.stop() <= 5.0
    finally:
        bare.close()
    rankings = [one for one in bare.rankings() if one.user_id == "anew"]
    assert [one.revision for one in rankings] == sorted(one.revision for one in rankings)
    assert rankings[-1].applied["clicks"] == 8
    assert len({one.epoch for one in rankings}) == 1


def click_often(made: Installation, count: int, named: str | None = None) -> None:
    """So many clicks, with ids of their own where they are named."""
    for number in range(count):
        own = {} if named is None else {"event_id": f"{named}-{number}"}
        made.send("clicks", "anew", {"user_id": "anew", "item_id": "item-1", **own})


def make_anew(made: Installation, topic: str) -> None:
    """Delete a topic and create it again."""
    admin = AdminClient({"bootstrap.servers": made.settings.broker.addresses})
    admin.delete_topics([topic])[topic].result(30)
    eventually("the topic is gone", lambda: topic not in admin.list_topics(timeout=10).topics)
    made.create_topics()


def count_of(made: Installation, user: str) -> int:
    """How many events of a user the changelog's row counts."""
    found = [row.count for key, row in made.stored_rows().items() if key[1] == user.encode()]
    return found[0] if found else 0


def test_a_password_is_neither_needed_in_a_file_nor_shown(bare: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the environment alone, and stays out of the log, also when nothing can connect."""
    monkeypatch.setenv("LIVERANK_SASL_PASSWORD", "s3cret-word")
    secure = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "worker", "brokers": "127.0.0.1:1"}
    worker = bare.worker("sasl", **secure).start()
    ends_with(worker)
    assert "s3cret-word" not in worker.log
    assert b"s3cret-word" not in msgspec.json.encode(msgspec.to_builtins(worker.settings, enc_hook=str))


def test_a_trainer_without_a_broker_ends_with_one_line_and_no_password(
    bare: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the broker, and stays quiet about how it would have signed in."""
    monkeypatch.setenv("LIVERANK_SASL_PASSWORD", "s3cret-word")
    secure = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "trainer", "brokers": "127.0.0.1:1"}
    ready = {"ready_file": bare.folder / "ready"}
    trainer = Process(changed(bare.settings, **secure, **ready), bare.folder)
    log = trainer.ended()
    assert "the trainer ends: " in log
    assert "127.0.0.1:1" in log
    assert "Traceback" not in log
    assert "s3cret-word" not in log


def test_a_registrys_password_is_not_logged(bare: Installation) -> None:
    """A worker tells of a registry that does not answer, by its address without the user and the password."""
    bare.create_topics()
    worker = bare.worker("away", registry="ftp://someone:s3cret-word@127.0.0.1:1/models").start()
    try:
        eventually("it says what it waits for", lambda: "waiting for the first bundle" in worker.log)
        assert "ftp://***@127.0.0.1:1/models" in worker.log
        assert "s3cret-word" not in worker.log
        assert "Traceback" not in worker.log
    finally:
        bare.close()


def test_security_settings_that_cannot_work_are_refused(bare: Installation) -> None:
    """With what is missing."""
    worker = bare.worker("sasl", security_protocol="SASL_SSL").start()
    assert "LIVERANK_SASL_PASSWORD" in ends_with(worker)
