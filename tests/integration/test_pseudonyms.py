"""Rows under pseudonyms: who has the key finds them, and without it nothing is found, written or begun anew."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.settings import Settings, changed, environment_of
from ranker.contracts.errors import LiverankError
from ranker.state.row import UserRow
from streams.kafka.admin import TopicError, create_topics
from streams.kafka.connection import partition_of
from tests.support.installation import Installation, Worker, assert_state_and_rankings, read_topic
from tests.support.tiny import tiny_bundle
from tests.support.waiting import eventually

KEY, OTHER = "pseudonyms-of-these-tests", "another-key-just-as-long"
VARIABLE = "LIVERANK_PSEUDONYM_KEY"
USER = "someone-5d1a"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def made(kafka: str, tmp_path: Path) -> Iterator[Installation]:
    """An installation with a bundle and topics of its own, which are not made yet."""
    tiny_bundle(tmp_path / "registry")
    own = {"registry": tmp_path / "registry", "topics_prefix": f"{tmp_path.name}."}
    installation = Installation(changed(Settings(), brokers=kafka, metrics_port=-1, **own), tmp_path)
    try:
        yield installation
    finally:
        installation.close()


def ends_with(worker: Worker) -> str:
    """Why a worker ends that does not begin; it joined no group, so nothing was read or written."""
    assert worker.process is not None
    assert worker.process.wait(120) == 1, worker.log
    (critical,) = (line for line in worker.log.splitlines() if "CRITICAL" in line)
    assert "Traceback" not in worker.log, worker.log
    assert not (worker.folder / "ready").exists(), worker.log
    return critical


def asked(installation: Installation, monkeypatch: pytest.MonkeyPatch, *command: str) -> dict:
    """What a command writes as JSON."""
    for name, value in environment_of(installation.settings).items():
        monkeypatch.setenv(name, value)
    out = installation.folder / "out.json"
    ran = CliRunner().invoke(app, [*command, "--json", str(out)])
    for name in environment_of(installation.settings):
        monkeypatch.delenv(name)
    if ran.exception is not None:
        raise ran.exception
    return json.loads(out.read_text())


def act(installation: Installation, *items: str) -> None:
    """A list, and a click on each of these items."""
    listed = [{"item_id": f"item-{number}"} for number in range(4)]
    installation.send("candidates", USER, {"user_id": USER, "request_id": "r", "items": listed})
    for item in items:
        installation.send("clicks", USER, {"user_id": USER, "item_id": item})
    installation.all_handled()


def row_of(installation: Installation) -> UserRow:
    """The user's row, as the changelog has it."""
    broker = installation.settings.broker
    (row,) = (
        row for (_, name), row in installation.stored_rows().items() if name == broker.row_names.of(USER.encode())
    )
    return row


def keys_of(installation: Installation) -> list[bytes]:
    """All keys of the changelog, in their order."""
    return [bytes(message.key()) for message in installation.read(installation.settings.broker.changelog)]


def test_rows_are_found_with_the_key_alone(made: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill, with an empty folder, and by commands. Without the key, or with another, a worker, a command and
    `topics create` each end with a sentence that names it; the changelog and the offsets stay as they are."""
    monkeypatch.setenv(VARIABLE, KEY)
    made.create_topics()
    worker = made.worker("worker").start().ready(240)
    act(made, "item-1", "item-2")
    worker.kill()
    worker.start().ready(240)
    act(made, "item-3")
    assert row_of(made).count == 3
    worker.kill()
    shutil.rmtree(worker.folder / "data")
    worker.start().ready(240)
    act(made, "item-0")
    worker.stop()
    assert row_of(made).count == 4
    assert_state_and_rankings(made)
    assert all(re.fullmatch(rb"[0-9a-f]{32}(\xffr)?", key) for key in keys_of(made))
    assert len({key.partition(b"\xff")[0] for key in keys_of(made)}) == 1
    assert asked(made, monkeypatch, "state", USER)["count"] == 4

    before, offsets = keys_of(made), made.unhandled()
    topics = set(AdminClient({"bootstrap.servers": made.settings.broker.addresses}).list_topics(timeout=30).topics)
    fingerprint = made.settings.broker.row_names.fingerprint
    for key, says in (
        (OTHER, "and the one that is set has [0-9a-f]{8}: set that one"),
        ("", "and none is set: set it"),
    ):
        monkeypatch.setenv(VARIABLE, key)
        wanted = rf"stored under a {VARIABLE} of fingerprint {fingerprint}, in \S+-{fingerprint}-changelog, {says}"
        assert re.search(wanted, ends_with(made.worker(f"with-{key}").start()))
        for call in (lambda: create_topics(made.settings.broker), lambda: asked(made, monkeypatch, "state", USER)):
            with pytest.raises(TopicError, match=wanted):
                call()
    monkeypatch.setenv(VARIABLE, KEY)
    assert (keys_of(made), made.unhandled()) == (before, offsets)
    assert topics == set(
        AdminClient({"bootstrap.servers": made.settings.broker.addresses}).list_topics(timeout=30).topics
    )
    with pytest.raises(LiverankError, match="no worker has a row of user 'nobody'"):
        asked(made, monkeypatch, "state", "nobody")


def test_a_damaged_row_is_told_of_without_the_id(made: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names it as the changelog does."""
    monkeypatch.setenv(VARIABLE, KEY)
    made.create_topics()
    broker = made.settings.broker
    name = broker.row_names.of(USER.encode())
    made.send(broker.changelog, name, b"\x93garbage", partition=partition_of(USER.encode(), broker.partitions))
    worker = made.worker("worker").start().ready(240)
    act(made, "item-1")
    worker.stop()
    assert f"the row of b'{name.decode()}' in partition" in worker.log
    assert USER not in worker.log
    assert row_of(made).count == 1


def test_rows_under_ids_are_taken_over_by_a_command(made: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key set later no worker starts. The command waits for none to run, stores every row under its pseudonym,
    and deletes the topic that holds ids; a folder with ids is refused, and users go on as they were."""
    made.create_topics()
    by_id = made.settings.broker.changelog
    worker = made.worker("worker").start().ready(240)
    act(made, "item-1", "item-2")
    before = row_of(made)
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(LiverankError, match=f"{VARIABLE} has 5 characters and must have at least 16"):
        asked(made, monkeypatch, "topics", "pseudonymise")
    monkeypatch.setenv(VARIABLE, KEY)
    late = made.worker("late").start()
    assert f"stored under users' ids, in {by_id}, and {VARIABLE} is set: take it away, or" in ends_with(late)
    with pytest.raises(LiverankError, match="has 1 members: end all workers first"):
        asked(made, monkeypatch, "topics", "pseudonymise")
    # Broken off by that, after the new topic was made: neither key nor none will do until it is repeated.
    assert "pseudonymise" in ends_with(made.worker("meanwhile").start())
    monkeypatch.delenv(VARIABLE)
    assert "and none is set: set it" in ends_with(made.worker("meanwhile-without").start())
    monkeypatch.setenv(VARIABLE, KEY)
    worker.stop()
    copied = asked(made, monkeypatch, "topics", "pseudonymise")
    assert copied == {"copied": len(keys_of(made)), "changelog": made.settings.broker.changelog}
    client = AdminClient({"bootstrap.servers": made.settings.broker.addresses})
    eventually("the topic of ids is gone", lambda: by_id not in client.list_topics(timeout=30).topics)
    assert row_of(made) == before
    assert "rows that are stored under another LIVERANK_PSEUDONYM_KEY" in ends_with(worker.start())
    shutil.rmtree(worker.folder / "data")
    worker.start().ready(240)
    act(made, "item-3")
    worker.stop()
    after = row_of(made)
    assert (after.epoch, after.count) == (before.epoch, 3)
    assert after.revision > before.revision
    assert_state_and_rankings(made)
    address, partitions = made.settings.broker.addresses, made.settings.broker.partitions
    for message in read_topic(address, made.settings.broker.changelog, partitions):
        assert USER.encode() not in bytes(message.key()) + bytes(message.value() or b"")
    with pytest.raises(LiverankError, match=f"there are no rows under users' ids: {by_id} does not exist"):
        asked(made, monkeypatch, "topics", "pseudonymise")


def test_without_a_key_rows_are_stored_as_ever(made: Installation) -> None:
    """Under ids, in the topic and the folder of the same names."""
    made.create_topics()
    worker = made.worker("worker").start().ready(240)
    act(made, "item-1")
    worker.stop()
    assert made.settings.broker.changelog == f"{made.settings.broker.group}-rows-changelog"
    assert set(keys_of(made)) == {USER.encode(), USER.encode() + b"\xffr"}
    partition = partition_of(USER.encode(), made.settings.broker.partitions)
    assert (worker.folder / "data" / "v1" / "tables" / f"rows-{partition}.db").is_dir()
