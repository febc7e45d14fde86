"""What a receipt says, and whose topic is cleaned."""

from __future__ import annotations

from typing import Any

import pytest

from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Erasure, Interaction, User
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.topic_map import topic_map
from ranker.state.fold import apply_input
from ranker.state.pseudonyms import hashed_user
from ranker.state.row import EMPTY, UserRow
from streams.kafka.progress import PartitionProgress
from streams.pipeline.erasures import Erasures, receipt_of
from streams.settings import BrokerSettings, WorkerSettings

NOW = 1_763_700_000_000
SCHEMA = FeatureSchema()


def row() -> UserRow:
    """Of a user with three clicks, one of them late, a list and two attributes."""
    found = EMPTY
    for offset, record in enumerate(
        [
            *(
                Interaction(user_id="u", item_id=f"i{n}", action="click", event_id=f"e{n}", ts=NOW + ts)
                for n, ts in enumerate((1, 2, 50))
            ),
            CandidateList(user_id="u", request_id="r", items=[Candidate(item_id="i1")], ts=NOW + 3),
            User(user_id="u", attributes={"a": 1, "b": "x"}, ts=NOW + 4),
        ]
    ):
        topic = {Interaction: "clicks", CandidateList: "candidates", User: "users"}[type(record)]
        at = Position(topic=topic, partition=0, offset=offset, ts=NOW)
        found = apply_input(found, record, at, SCHEMA)
    return found


def test_a_receipt_counts_what_was_up_to_the_erasure() -> None:
    """And nothing that is newer."""
    receipt = receipt_of(b"key", row(), Erasure(user_id="u", ts=NOW + 10))
    assert (receipt.events, receipt.lists, receipt.attributes, receipt.ts) == (2, 1, 2, NOW + 10)
    earlier = receipt_of(b"key", row(), Erasure(user_id="u", ts=NOW + 1))
    assert (earlier.events, earlier.lists, earlier.attributes) == (1, 0, 0)


def test_only_who_has_the_key_finds_a_user() -> None:
    """The same user is the same under one key, and nothing can be matched across keys."""
    assert hashed_user(b"key", "u") == hashed_user(b"key", "u")
    assert len({hashed_user(key, user) for key in (b"key", b"other") for user in ("u", "v")}) == 4


class Sent:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes | None, int | None]] = []

    def send(self, topic: str, key: bytes, value: bytes | None, partition: int = -1, at_ms: int | None = None) -> None:
        self.records.append((topic, key, value, at_ms))


class At:
    """Where `users` ends."""

    def __init__(self, end: int) -> None:
        self.end = end

    async def now(self, places: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, self.end)


@pytest.mark.parametrize(
    ("names", "attributes_ts", "tombstones"),
    [({}, None, 1), ({}, NOW + 20, 0), ({"users": "crm.people"}, None, 0)],
    ids=["ours", "newer attributes", "theirs"],
)
async def test_users_gets_a_tombstone(names: dict[str, str], attributes_ts: int | None, tombstones: int) -> None:
    """Where the topic is ours, and what the row knows is not newer than the erasure; as old as that."""
    broker = BrokerSettings(topics=topic_map(names, "x"))
    progress, sent = PartitionProgress(), Sent()
    progress.start({(broker.topics.called("users"), 0): 7})
    erased = apply_input(
        row(), Erasure(user_id="u", ts=NOW + 10), Position(topic="erasures", partition=0, offset=0, ts=NOW),
        SCHEMA,
    )  # fmt: skip
    if attributes_ts is not None:
        at = Position(topic="users", partition=0, offset=9, ts=NOW)
        erased = apply_input(erased, User(user_id="u", attributes={"a": 2}, ts=attributes_ts), at, SCHEMA)
    erasures = Erasures(
        WorkerSettings(broker=broker), sent, progress, At(7), lambda place: erased  # type: ignore[arg-type]
    )  # fmt: skip
    erasure = Erasure(user_id="u", ts=NOW + 10)
    erasures.applied(Position(topic="erasures", partition=0, offset=0, ts=NOW), b"u", row(), erasure, erased)
    await erasures.erased((0, b"u"))
    assert [one for one in sent.records if one[0] == "users"] == [("users", b"u", None, NOW + 10)] * tombstones


async def test_partitions_that_leave_end_the_wait() -> None:
    """The erasure comes again to who has them."""
    sent = Sent()
    erasures = Erasures(
        WorkerSettings(), sent, PartitionProgress(), At(7), lambda place: EMPTY  # type: ignore[arg-type]
    )  # fmt: skip
    at = Position(topic="erasures", partition=0, offset=0, ts=NOW)
    erasures.applied(at, b"u", EMPTY, Erasure(user_id="u", ts=NOW), EMPTY)  # it came before
    await erasures.erased((0, b"u"))
    assert sent.records == []


async def test_of_whom_nothing_was_known_nothing_is_cleaned() -> None:
    """A tombstone for every erasure would be one more input of each."""
    progress, sent = PartitionProgress(), Sent()
    progress.start({("users", 0): 7})
    erasures = Erasures(WorkerSettings(), sent, progress, At(7), lambda place: erased)  # type: ignore[arg-type]
    at = Position(topic="erasures", partition=0, offset=0, ts=NOW)
    erased = apply_input(EMPTY, Erasure(user_id="u", ts=NOW), at, SCHEMA)
    erasures.applied(at, b"u", EMPTY, Erasure(user_id="u", ts=NOW), erased)
    await erasures.erased((0, b"u"))
    assert [one[0] for one in sent.records] == ["erasure-receipts"]


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({}, "liverank"),
        ({"PSEUDONYM": "a key of pseudonyms"}, "a key of pseudonyms"),
        ({"ERASURE": "of receipts"}, "of receipts"),
        ({"ERASURE": "of receipts", "PSEUDONYM": "a key of pseudonyms"}, "of receipts"),
    ],
)
def test_a_receipt_can_be_guessed_only_where_no_key_is_set(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], key: str
) -> None:
    """Where rows have pseudonyms, receipts are no way around them."""
    for name in ("ERASURE", "PSEUDONYM"):
        monkeypatch.setenv(f"LIVERANK_{name}_KEY", keys.get(name, ""))
    sent = Sent()
    erasures = Erasures(
        WorkerSettings(), sent, PartitionProgress(), At(7), lambda place: EMPTY  # type: ignore[arg-type]
    )  # fmt: skip
    at = Position(topic="erasures", partition=0, offset=0, ts=NOW)
    erasure = Erasure(user_id="u", ts=NOW)
    erasures.applied(at, b"u", EMPTY, erasure, apply_input(EMPTY, erasure, at, SCHEMA))
    assert [name for _, name, _, _ in sent.records] == [hashed_user(key.encode(), "u").encode()]
