"""The examples on the topic are those of the offline join over the same log; on Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest

from liverank.settings import Settings, changed
from online_learning.data.log_fold import Step, fold
from online_learning.first_model.log_examples import step_examples
from ranker.contracts.clock import now_ms
from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Candidate, CandidateList, Erasure, Example, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.codec import decode_row
from tests.support.installation import Installation
from tests.support.tiny import ENCODER, tiny_bundle, tiny_model, tiny_tables
from tests.support.waiting import eventually

START = 1_700_000_000_000
USERS, ROUNDS = 12, 6
RATE = 500  # records a second while a worker is to be killed


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A worker on topics of its own broker's, with one bundle."""
    folder = tmp_path_factory.mktemp("installation")
    tiny_bundle(folder / "registry")
    settings = changed(
        Settings(),
        brokers=kafka,
        registry=str(folder / "registry"),
        app="examples",
        metrics_port=-1,
        session_timeout_s=6.0,
    )
    made = Installation(settings, folder)
    made.create_topics()
    made.worker("worker").start().ready()
    try:
        yield made
    finally:
        made.close()


def turns(
    name: str, users: int = USERS, rounds: int = ROUNDS, start: int = START
) -> Iterator[tuple[list[CandidateList], list[Interaction]]]:
    """Lists of all users, then what they do, in time order: clicks in time, late, on and off the list, and silences."""
    rng = np.random.default_rng(3)
    for turn in range(rounds):
        lists: list[CandidateList] = []
        events: list[Interaction] = []
        for number in range(users):
            user, ts = f"{name}-{number}", start + turn * 120_000 + number
            items = [f"item-{item}" for item in rng.choice(50, 8, replace=False)]
            candidates = [Candidate(item_id=item) for item in items]
            lists.append(CandidateList(user_id=user, request_id=f"{user}:{turn}", ts=ts, items=candidates))
            for step in range(int(rng.integers(0, 4))):
                late = 45_000 if rng.random() < 0.3 else 0
                item = items[int(rng.integers(8))] if rng.random() < 0.7 else "item-elsewhere"
                events.append(
                    Interaction(
                        user_id=user, item_id=item, action=("view", "click")[int(rng.random() < 0.6)],
                        ts=ts + late + 1000 * (step + 1), event_id=f"{user}-{turn}-{step}",
                    )
                )  # fmt: skip
        yield lists, sorted(events, key=lambda event: event.ts or 0)


def send(installation: Installation, topic: str, records: Sequence[UserInput], kill_after: int | None = None) -> None:
    """Send records in their order, and wait until all are handled: topics have no common order.

    After so many of them the worker is killed, in the midst of the others, and started again when all are sent.
    """
    producer = installation.producer()
    for number, record in enumerate(records):
        if number == kill_after:
            installation.workers[0].kill()
        producer.produce(topic, msgspec.json.encode(record), record.user_id)
        if kill_after is not None:
            producer.poll(1 / RATE)
    producer.flush(30)
    if kill_after is not None:
        installation.workers[0].start().ready()
    installation.all_handled()


def comparable(example: Example) -> Example:
    """What both joins must agree on: not the model, its version and its ranks, nor the offsets in the row."""
    row = decode_row(example.state)
    state = msgspec.json.encode((row.revision, row.count, row.candidates, row.now))
    return msgspec.structs.replace(example, model="", model_name=None, ranks=b"", state=state)


def expected_of(log: Sequence[UserInput], installation: Installation) -> dict[str, Example]:
    """What the offline join makes of a log, by id."""
    schema = FeatureSchema()
    tables = ItemTables(tiny_tables(tiny_model(schema).config, [f"item-{at}" for at in range(50)]), Catalog(), ENCODER)
    return {
        example.example_id: comparable(example)
        for step in fold(log, schema)
        if isinstance(step, Step)
        for example in step_examples(step, tables, schema, installation.settings.worker.attribution_ms)
    }


def assert_equal_but_for_open_lists(found: dict[str, Example], expected: dict[str, Example]) -> None:
    """The same examples; besides, each user's last list may have been closed by the clock, where nothing else came."""
    assert {name: found[name] for name in expected if name in found} == expected
    last = {example.user_id: example.request_id for example in expected.values()}
    for name in set(found) - set(expected):
        assert found[name].outcome is None, name
        assert found[name].request_id >= last.get(found[name].user_id, ""), name


def made_for(installation: Installation, name: str) -> list[Example]:
    """All examples on the topic of users whose ids begin so."""
    made = [msgspec.json.decode(message.value(), type=Example) for message in installation.read("examples")]
    return [example for example in made if example.user_id.startswith(name)]


def test_the_worker_and_the_replay_make_the_same_examples(installation: Installation) -> None:
    """By id, with outcomes, rows and statistics; clicks know the rank that the ranking gave."""
    log: list[UserInput] = []
    for lists, events in turns("joined"):
        send(installation, "candidates", lists)
        send(installation, "interactions", events)
        log += [*lists, *events]
    forget = Erasure(user_id="joined-0", ts=START + 10**9)
    send(installation, "erasures", [forget])
    made = made_for(installation, "joined")
    found = {example.example_id: comparable(example) for example in made}
    assert_equal_but_for_open_lists(found, expected_of([*log, forget], installation))
    known = [np.frombuffer(example.ranks, "<i4") for example in made if example.outcome is not None]
    assert any(ranks.any() for ranks in known)


def test_kills_make_the_same_examples(installation: Installation) -> None:
    """A worker killed under load, once while lists come and once while events do: afterwards the topic holds the
    offline join's examples, none missing and none besides, and where one came twice both are the same."""
    log: list[UserInput] = []
    for turn, (lists, events) in enumerate(turns("killed", users=300, rounds=3, start=START + 3 * 10**9)):
        send(installation, "candidates", lists, kill_after=200 if turn == 1 else None)
        send(installation, "interactions", events, kill_after=300 if turn == 1 else None)
        log += [*lists, *events]
    made = made_for(installation, "killed")
    found: dict[str, Example] = {}
    for example in made:
        first = found.setdefault(example.example_id, comparable(example))
        assert comparable(example) == first
    assert len(made) > len(found), "the kills came between two checkpoints, so some were made twice"
    assert_equal_but_for_open_lists(found, expected_of(log, installation))


def test_an_idle_users_list_closes_with_the_partitions_time(installation: Installation) -> None:
    """Nothing more comes of that user; the example comes once their partition's events are later than the window."""
    ts = START + 2 * 10**9
    send(installation, "candidates", [_one_item("idle", ts)])
    later = [  # of so many that some share the partition
        Interaction(user_id=f"other-{number}", item_id="item-2", action="view", ts=ts + 31_000) for number in range(40)
    ]
    send(installation, "interactions", later)

    def closed() -> bool:
        names = [msgspec.json.decode(message.value())["example_id"] for message in installation.read("examples")]
        return "idle:idle:1:" in names

    eventually("the idle user's list is closed", closed, 20)


def test_a_clock_that_is_ahead_closes_nobody_elses_list(installation: Installation) -> None:
    """Events of the near future are taken; the lists of others stay open until their time has come."""
    now = now_ms()
    send(installation, "candidates", [_one_item("patient", now)])
    ahead = [
        Interaction(user_id=f"ahead-{number}", item_id="item-2", action="view", ts=now + 240_000)
        for number in range(40)
    ]
    send(installation, "interactions", ahead)
    send(installation, "interactions", [_click("patient", now + 1)])
    drew = [example.outcome and example.outcome.event_id for example in made_for(installation, "patient")]
    assert drew == ["patient-click"]


def _one_item(user: str, ts: int) -> CandidateList:
    return CandidateList(user_id=user, request_id=f"{user}:1", ts=ts, items=[Candidate(item_id="item-1")])


def _click(user: str, ts: int) -> Interaction:
    return Interaction(user_id=user, item_id="item-1", action="click", ts=ts, event_id=f"{user}-click")
