"""What a running system's topics hold, as a log to train from; on Apache Kafka."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from liverank.operate.topics_log import TopicsLog
from liverank.settings import Settings, changed
from online_learning.folder.log import open_folder
from online_learning.folder.written import schema_text
from online_learning.progress import ProgressReport
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from ranker.contracts.schema import Action, FeatureSchema
from ranker.contracts.topics import TOPIC_OF_ACTION
from tests.support.folders import folder_of
from tests.support.installation import Installation

START, HOUR = 1_700_000_000_000, 3_600_000
SCHEMA = FeatureSchema(actions=(*FeatureSchema().actions, Action(name="buy", positive=True)))


def event(user: str, action: str, ts: int) -> Interaction:
    """An event with an id of its own."""
    return Interaction(user_id=user, item_id="i1", action=action, ts=ts, event_id=f"{user}-{action}-{ts}")


def shown(user: str, ts: int) -> CandidateList:
    """A list."""
    items = [Candidate(item_id="i1", score=0.5, features={"price": 2.0}), Candidate(item_id="i2")]
    return CandidateList(user_id=user, request_id=f"r-{user}-{ts}", items=items, ts=ts, context={"device": "phone"})


#: By time: of one time the list is first, whichever topic was read first.
KEPT = [
    shown("u1", START), event("u1", "view", START + 1), event("u1", "click", START + 2),
    shown("u2", START + HOUR), event("u2", "buy", START + HOUR + 1), event("u3", "click", START + HOUR + 5),
]  # fmt: skip


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Topics with what is to be learned from, and with all that is not."""
    folder = tmp_path_factory.mktemp("topics")
    made = Installation(changed(Settings(), brokers=kafka, registry=str(folder / "registry"), app="topics"), folder)
    made.create_topics()

    def send(record: Interaction | CandidateList, **change: object) -> None:
        record = msgspec.structs.replace(record, **change)
        topic = (
            "candidates" if isinstance(record, CandidateList) else TOPIC_OF_ACTION.get(record.action, "interactions")
        )
        made.send(topic, record.user_id, msgspec.json.encode(record), timestamp=record.ts)

    for record in reversed(KEPT):
        send(record)
    send(shown("u1", START - 5 * HOUR))  # before
    send(event("u1", "click", START + 9 * HOUR))  # and after the time that is asked for
    send(shown("u2", START + 10)), send(event("u2", "click", START + 20))  # forgotten
    made.send("erasures", "u2", {"user_id": "u2", "ts": START + 30})
    made.send("interactions", "u1", {"user_id": "u1", "item_id": "i1", "action": "fly"})
    made.send("clicks", "u1", b"no json")
    for item in ({"item_id": "i1", "title": "Old"}, {"item_id": "i1", "title": "A lamp", "numeric": {"price": 2.0}}):
        made.send("items", "i1", item)
    made.send("items", "i2", {"item_id": "i2", "title": "Withdrawn"})
    made.send("items", "i2", None)
    made.send("users", "u1", {"user_id": "u1", "attributes": {"age": 3}})
    made.send("users", "u1", {"user_id": "u1", "attributes": {"age": 30}})
    made.send("users", "u2", {"user_id": "u2", "attributes": {"age": 40}}, timestamp=START + 10)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": "aborted"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("clicks", msgspec.json.encode(event("u3", "click", START + 3)), "u3")
    producer.flush(30)
    producer.abort_transaction(30)
    return made


def test_topics_give_the_records_of_a_folder(installation: Installation, tmp_path: Path) -> None:
    """In its order; the newest of each item and user; nothing forgotten, aborted, out of the span or sent later."""
    told: list[ProgressReport] = []
    log = TopicsLog(installation.settings, SCHEMA, START - HOUR, START + 8 * HOUR, told.append)
    installation.send("clicks", "late", {"user_id": "late", "item_id": "i1", "ts": START + 4})
    found = list(log.records())
    item = Item(item_id="i1", title="A lamp", numeric={"price": 2.0})
    assert found == [item, User(user_id="u1", attributes={"age": 30}), *KEPT]
    assert log.left_out == {"unknown-action": 1, "not-json": 1}
    assert log.erased == 2
    assert {topic: len(lines) for topic, lines in log.report()["left_out_first"].items()} == {
        "clicks": 1,
        "interactions": 1,
    }
    assert "'fly' is given; valid are view, click, buy" in log.named["interactions"][0]
    assert {"clicks", "candidates", "items"} <= {progress.phase for progress in told}
    assert log.offsets == {}, "it ends before the topics do"
    kinds: dict[str, list] = {"items": found[:1], "users": found[1:2], "candidates": [], "interactions": []}
    for record in reversed(KEPT):
        kinds["candidates" if isinstance(record, CandidateList) else "interactions"].append(record)
    lines = {f"{kind}.jsonl": b"\n".join(map(msgspec.json.encode, records)) for kind, records in kinds.items()}
    folder = folder_of(tmp_path, {**lines, "liverank.toml": schema_text(SCHEMA)})
    assert list(open_folder(folder).records(folder)) == found


def test_a_log_to_the_end_says_where_examples_ended(installation: Installation) -> None:
    """So that a trainer goes on from there; and a later time to begin with leaves out what is before it."""
    number, offset = installation.send("examples", "u1", b"{}")
    log = TopicsLog(installation.settings, SCHEMA, START + HOUR, None, lambda _: None)
    assert log.offsets[f"examples-{number}"] == offset + 1
    assert log.offsets.keys() == {f"examples-{number}" for number in range(installation.settings.broker.partitions)}
    timed = [record for record in log.records() if isinstance(record, Interaction | CandidateList)]
    assert timed == [*KEPT[3:], event("u1", "click", START + 9 * HOUR)]


@pytest.mark.parametrize(
    ("since", "until", "missing"),
    [(START + 2 * HOUR, None, "no list"), (START, START + 1, "no event that is click or buy")],
)
def test_nothing_to_learn_from_is_said(installation: Installation, since: int, until: int | None, missing: str) -> None:
    """Which it is that is missing."""
    log = TopicsLog(installation.settings, SCHEMA, since, until, lambda _: None)
    with pytest.raises(
        LiverankError, match=rf"hold {missing} of the time asked for .*; there is nothing to learn from"
    ):
        list(log.records())


def test_a_broker_that_does_not_answer_is_said(installation: Installation) -> None:
    """In one line, before anything is read."""
    other = changed(installation.settings, brokers="127.0.0.1:1")
    with pytest.raises(LiverankError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        TopicsLog(other, SCHEMA, None, None, lambda _: None)
