"""A user who asks to be forgotten is: in rows, on disk, in the topics, and a receipt says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from liverank.local.broker import Broker, start_broker
from liverank.settings import Settings, changed
from ranker.contracts.records import ErasureReceipt
from ranker.contracts.topics import TOPICS
from ranker.state.pseudonyms import hashed_user
from streams.kafka.connection import partition_of
from tests.support.installation import Installation
from tests.support.tiny import tiny_bundle
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Found nowhere else in any file.
USER, WORD, REQUEST = "forget-7c1e-me", "attribute-9d44-of-mine", "request-31fa-of-mine"
#: The broker deletes and compacts within seconds, as it does within days elsewhere.
HASTE = {
    "log.retention.check.interval.ms": "500", "log.cleaner.backoff.ms": "200", "log.segment.delete.delay.ms": "0",
    "log.cleaner.delete.retention.ms": "100",
}  # fmt: skip


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[tuple[Installation, Broker]]:
    """An installation on a broker of its own."""
    tiny_bundle(tmp_path / "registry")
    with start_broker("kafka", tmp_path / "broker", settings=HASTE) as broker:
        settings = changed(
            Settings(), brokers=broker.address, registry=str(tmp_path / "registry"), app="erased", metrics_port=-1
        )
        made = Installation(settings, tmp_path)
        made.create_topics()
        try:
            yield made, broker
        finally:
            made.close()


@pytest.fixture(params=["", "a key of pseudonyms"], ids=["by-id", "pseudonyms"])
def pseudonym_key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows under ids, and under pseudonyms; before there are topics."""
    key: str = request.param
    if key:
        monkeypatch.setenv("LIVERANK_PSEUDONYM_KEY", key)
    return key


def test_nothing_of_a_forgotten_user_is_left(
    pseudonym_key: str, hasty: tuple[Installation, Broker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every byte of topics after retention and compaction, and of the worker's folder, is searched: the id is left as
    the row's key alone, under pseudonyms nowhere, in no file of the broker's and the worker's, its log included; and
    nothing of what the row held. Another user's record in the same partitions stays."""
    monkeypatch.setenv("LIVERANK_ERASURE_KEY", "a key")
    installation, _ = hasty
    changelog, names = installation.settings.broker.changelog, installation.settings.broker.row_names
    partitions = installation.settings.broker.partitions
    stays = next(
        name for name in (f"stays-{n}" for n in range(99))
        if partition_of(name.encode(), partitions) == partition_of(USER.encode(), partitions)
    )  # fmt: skip
    worker = installation.worker("worker").start().ready(240)
    now = int(time.time() * 1000)
    live(installation, USER, now - 60_000)
    live(installation, stays, now - 60_000)
    installation.all_handled()
    installation.send("erasures", USER, {"user_id": USER, "ts": now - 1000})
    # Attributes from before the erasure that come after it, and some that are newer than it.
    installation.send("users", USER, {"user_id": USER, "attributes": {"word": WORD}, "ts": now - 30_000})
    installation.all_handled()
    (receipt,) = receipts(installation)
    assert receipt.user == hashed_user(b"a key", USER)
    assert (receipt.ts, receipt.events, receipt.lists, receipt.attributes) == (now - 1000, 2, 1, 1)
    eventually("users has a tombstone last", lambda: newest_of(installation, "users", USER) is None)
    assert names_in(tmp_path / "broker", USER)
    haste(installation)

    def searched() -> bool:
        live(installation, stays, int(time.time() * 1000))  # segments are closed by what comes
        installation.all_handled()
        if pseudonym_key:
            return not names_in(tmp_path / "broker", USER, WORD, REQUEST)
        found = places_of(tmp_path / "broker", USER, WORD, REQUEST)
        return found <= {changelog} and not rows_hold(installation, WORD, REQUEST)

    eventually("only the changelog's key names the user, or nothing", searched, 240)
    words = (USER, WORD, REQUEST) if pseudonym_key else (WORD, REQUEST)
    folder = worker.folder if pseudonym_key else worker.folder / "data"
    eventually("the worker's files hold nothing of the row", lambda: not names_in(folder, *words), 60)
    worker.stop()
    assert names_in(folder, *words) == []
    # As the row's key it is found, so the search finds what there is.
    assert bool(names_in(tmp_path, USER)) == (not pseudonym_key)
    (row,) = (row for key, row in installation.stored_rows().items() if key[1] == names.of(USER.encode()))
    assert (row.erased_at, row.count, row.attributes) == (now - 1000, 0, {})
    assert newest_of(installation, "users", stays) is not None


def test_attributes_that_are_newer_than_an_erasure_stay(hasty: tuple[Installation, Broker]) -> None:
    """A person may come back at once: no tombstone goes over what was sent since, not after a restart either."""
    installation, _ = hasty
    now = int(time.time() * 1000)
    live(installation, USER, now - 60_000)
    installation.send("erasures", USER, {"user_id": USER, "ts": now - 1000})
    installation.send("users", USER, {"user_id": USER, "attributes": {"word": "new"}, "ts": now})
    worker = installation.worker("worker").start().ready()
    installation.all_handled()
    worker.stop()
    worker.start().ready()
    installation.send("views", USER, {"user_id": USER, "item_id": "item-1"})
    installation.all_handled()
    worker.stop()
    assert b"new" in (newest_of(installation, "users", USER) or b"")
    (row,) = (row for key, row in installation.stored_rows().items() if key[1] == USER.encode())
    assert row.attributes == {"word": "new"}
    assert len(receipts(installation)) == 1


def live(installation: Installation, user: str, ts: int) -> None:
    """Attributes, a list, two events."""
    installation.send("users", user, {"user_id": user, "attributes": {"word": WORD if user == USER else "w"}, "ts": ts})
    request = REQUEST if user == USER else "r"
    listed = {"user_id": user, "request_id": request, "items": [{"item_id": f"item-{n}"} for n in range(5)], "ts": ts}
    installation.send("candidates", user, listed)
    for number in (1, 2):
        installation.send("clicks", user, {"user_id": user, "item_id": f"item-{number}", "ts": ts + number})


def receipts(installation: Installation) -> list[ErasureReceipt]:
    return [msgspec.json.decode(m.value(), type=ErasureReceipt) for m in installation.read("erasure-receipts")]


def newest_of(installation: Installation, topic: str, key: str) -> bytes | None:
    """The value of the newest record of a key."""
    return [message.value() for message in installation.read(topic) if message.key() == key.encode()][-1]


def haste(installation: Installation) -> None:
    """Retention and compaction within a second, and segments that do not stay open."""
    admin = AdminClient({"bootstrap.servers": installation.settings.broker.addresses})
    resources = []
    for name, compacted in [
        *((installation.settings.topics.called(topic.name), topic.compacted) for topic in TOPICS.values()),
        (installation.settings.broker.changelog, True),
    ]:
        given = {"segment.ms": "300"} | (
            {"min.cleanable.dirty.ratio": "0.0", "max.compaction.lag.ms": "300", "delete.retention.ms": "100"}
            if compacted
            else {"retention.ms": "1000"}
        )
        entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in given.items()]
        resources.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries))
    for altered in admin.incremental_alter_configs(resources).values():
        altered.result(30)


def places_of(logs: Path, *words: str) -> set[str]:
    """The topics whose files hold one of these words."""
    return {file.parent.name.rpartition("-")[0] for file in files(logs, "*.log") if holds(file, *words)}


def rows_hold(installation: Installation, *words: str) -> bool:
    """Whether any value of the changelog's files does."""
    changelog = installation.settings.broker.changelog
    kept: list[Any] = [
        file for file in files(installation.folder / "broker", "*.log") if file.parent.name.startswith(changelog)
    ]
    return any(holds(file, *words) for file in kept)


def names_in(folder: Path, *words: str) -> list[str]:
    """The files of a folder that hold one of these words."""
    return [str(file) for file in files(folder, "*") if holds(file, *words)]


def files(folder: Path, pattern: str) -> Iterator[Path]:
    return (file for file in folder.rglob(pattern) if file.is_file())


def holds(file: Path, *words: str) -> bool:
    try:
        content = file.read_bytes()
    except FileNotFoundError:  # it was deleted meanwhile
        return False
    return any(word.encode() in content for word in words)
