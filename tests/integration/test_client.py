"""The client, over Kafka and over a gateway: one interface, and the same answers."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator

import msgspec
import pytest
from msgspec.structs import replace

from liverank.client import (
    AsyncClient,
    Candidate,
    CandidateList,
    Client,
    Erasure,
    Interaction,
    InvalidRecord,
    Item,
    LiverankError,
    User,
)
from liverank.settings import changed, environment_of
from ranker.contracts.clock import now_ms
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import REPOSITORY, Installation
from tests.support.waiting import eventually

_TOKEN = "a-token-for-the-tests"  # noqa: S105
_LONG_S = 60.0  # nothing here is about time


@pytest.fixture(scope="module")
def gateway(installation: Installation) -> Iterator[GatewayProcess]:
    """A gateway that asks for a token, and leaves actions to workers, as its registry has no such model."""
    settings = changed(installation.settings, model="none")
    process = GatewayProcess(
        settings, installation.folder / "gateway", {"LIVERANK_GATEWAY_TOKENS": f"other-{_TOKEN},{_TOKEN}"}
    )
    try:
        yield process.start().ready()
    finally:
        process.kill()


@pytest.fixture(scope="module", params=["kafka", "gateway"])
def client(request: pytest.FixtureRequest, installation: Installation) -> Iterator[Client]:
    """A client of a running installation, by either way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVERANK_GATEWAY_TOKEN", _TOKEN)
        address = request.getfixturevalue("gateway").address if request.param == "gateway" else None
        with Client(address, settings=installation.settings, give_up_after_s=_LONG_S) as made:
            yield made


@pytest.fixture
def user() -> str:
    """A user that no other test knows; the slash is a letter like any other."""
    return f"user/{uuid.uuid4().hex[:8]}"


def shown(user: str, *items: str, request: str = "page-1") -> CandidateList:
    """A list for a user."""
    return CandidateList(request_id=request, user_id=user, items=[Candidate(item_id=item) for item in items])


def click(user: str, item: str) -> Interaction:
    """A click, which has no name of its own."""
    return Interaction(user_id=user, item_id=item, action="click")


def test_what_is_sent_is_the_brokers(installation: Installation, client: Client, user: str) -> None:
    """Each kind of record lies where its answer says, by its key; an event has a name, each record its time."""
    before = now_ms()
    records = [
        click(user, "item-1"), Interaction(user_id=user, item_id="item-2", action="view", event_id="mine"),
        Item(item_id=f"{user}-item", title="A hat"), User(user_id=user, attributes={"age": 30}),
        shown(user, "item-1"), Erasure(user_id=user, ts=before - 1000),
    ]  # fmt: skip
    accepted = client.send(*records)
    assert [one.topic for one in accepted] == ["clicks", "views", "items", "users", "candidates", "erasures"]
    held = {}
    for topic in ("clicks", "views", "items", "users", "candidates", "erasures"):
        held |= {(topic, one.partition(), one.offset()): one for one in installation.read(topic)}
    for record, place in zip(records, accepted, strict=True):
        message = held[place.topic, place.partition, place.offset]
        own = type(record).__name__ == "Item"
        assert message.key() == (record.item_id if own else record.user_id).encode()
    names = [one.event_id for one in accepted[:2]]
    assert names[0] and names[1] == "mine" and not any(one.event_id for one in accepted[2:])
    assert names[0].encode() in held["clicks", accepted[0].partition, accepted[0].offset].value()
    assert len({one.partition for one in accepted if one.topic != "items"}) == 1, "a user's inputs meet"


def test_a_ranking_covers_what_was_sent(client: Client, user: str) -> None:
    """The list and its events are in the ranking that comes back; so are those of the next question."""
    items = [f"item-{number}" for number in range(6)]
    first = client.rank(shown(user, *items), within_s=_LONG_S)
    assert not first.stale and first.ranking is not None
    assert sorted(line.item_id for line in first.ranking.items) == items
    again = client.rank(shown(user, *items), [click(user, "item-3"), click(user, "item-4")], within_s=_LONG_S)
    assert not again.stale and again.ranking is not None
    assert set(again.ranking.applied) == {"clicks", "candidates"}
    assert again.ranking.revision == first.ranking.revision + 3
    assert client.ranking(user) == client.ranking(user, "page-1") == again.ranking
    assert client.ranking(user, "another") is None and client.ranking("nobody") is None


def test_a_list_that_asks_is_told_why(client: Client, user: str) -> None:
    """At most so many reasons of each item, the click among them with what it was on; a list that does not ask has
    none, nor has a group's."""
    items = [f"item-{number}" for number in range(6)]
    asking = replace(shown(user, *items), reasons=2)
    told = client.rank(asking, [click(user, "item-3")], within_s=_LONG_S).ranking
    assert told is not None
    assert all(1 <= len(line.reasons) <= 2 for line in told.items)
    clicks = [one for line in told.items for one in line.reasons if one.kind == "event"]
    assert {(one.name, one.item_id) for one in clicks} == {("click", "item-3")}
    assert all("item-3" in one.words or "you clicked on it" in one.words for one in clicks)
    again = client.rank(shown(user, *items), within_s=_LONG_S).ranking
    assert again is not None and not any(line.reasons for line in again.items)
    client.rank_group([user], asking, within_s=_LONG_S)
    own = client.ranking(user, "page-1")
    assert own is not None and own.revision > again.revision and not any(line.reasons for line in own.items)
    with pytest.raises(InvalidRecord, match=r"`int` <= 10 - at `\$.reasons`"):
        client.rank(replace(asking, reasons=11))


def test_an_item_that_is_withdrawn_is_in_no_later_ranking(
    installation: Installation, client: Client, user: str
) -> None:
    """Whatever its id is made of; its tombstone lies where the answer says, and a description brings it back."""
    gone, stays = f"{user}/a b?c%2F#ü", f"{user}-stays"
    client.send(Item(item_id=gone, title="A hat"), Item(item_id=stays, title="A coat"))

    def ranked() -> set[str]:
        found = client.rank(shown(user, gone, stays), within_s=_LONG_S).ranking
        assert found is not None
        return {line.item_id for line in found.items}

    assert ranked() == {gone, stays}
    (accepted,) = client.withdraw(gone)
    (tombstone,) = [
        one
        for one in installation.read("items")
        if (one.partition(), one.offset()) == (accepted.partition, accepted.offset)
    ]
    assert (accepted.topic, accepted.event_id) == ("items", None)
    assert (tombstone.key(), tombstone.value()) == (gone.encode(), None)
    eventually("it is ranked no more", lambda: ranked() == {stays})
    client.send(Item(item_id=gone, title="A hat"))
    eventually("it is back", lambda: ranked() == {gone, stays})
    assert [one.topic for one in client.withdraw(gone, f"{user}-never-described")] == ["items", "items"]
    for wrong in ("", "i" * 257):
        with pytest.raises(InvalidRecord, match=r"`str` of length .*; items requires item_id") as refused:
            client.withdraw(wrong)
        assert refused.value.reason == "invalid"
    assert client.withdraw() == []


def test_a_group_is_ranked_by_what_each_member_did(client: Client, user: str) -> None:
    """Each member's scores are those of the member's own ranking, which knows of the member's own clicks."""
    items = [f"item-{number}" for number in range(6)]
    members = [f"{user}-ann", f"{user}-ben"]
    events = [click(members[0], "item-4"), click(members[1], "item-2"), click(members[0], "item-5")]
    found = client.rank_group(members, shown("anybody", *items), events, by="least-misery", within_s=_LONG_S)
    assert (found.missing, found.stale, found.request_id) == ([], [], "page-1")
    assert sorted(line.item_id for line in found.items) == items
    own = {member: client.ranking(member, "page-1") for member in members}
    for number, member in enumerate(members):
        ranking = own[member]
        assert ranking is not None and ranking.applied["clicks"] >= 0
        scores = {line.item_id: line.score for line in ranking.items}
        assert {line.item_id: line.scores[member] for line in found.items} == scores
        assert ranking.revision == 3 - number, "own clicks and the list, of nobody else"
    assert [line.score for line in found.items] == sorted(min(line.scores.values()) for line in found.items)[::-1]
    with pytest.raises(InvalidRecord, match="is 'stranger', and nobody of the group is"):
        client.rank_group(members, shown("anybody", *items), [click("stranger", "item-1")])


def test_a_ranking_that_is_late_is_the_one_before_and_says_so(
    installation: Installation, client: Client, user: str
) -> None:
    """Where the worker stands still the deadline ends the wait; the ranking comes once it goes on."""
    assert client.rank(shown(user, "item-1", "item-2", request="new"), within_s=_LONG_S).ranking is not None
    known = client.rank(shown(user, "item-1", "item-2"), within_s=_LONG_S).ranking
    (worker,) = installation.workers
    worker.pause()
    try:
        late = client.rank(shown(user, "item-1", "item-2"), [click(user, "item-2")], within_s=0.1)
        assert late.stale and late.ranking == known
        unknown = client.rank(shown(user, "item-1", request="never-seen"), within_s=0.1)
        assert unknown.stale and unknown.ranking is None
    finally:
        worker.resume()
    # Kafka keeps no order between topics: a click after the one before has the ranking know of both.
    covered = client.rank(shown(user, "item-1", "item-2"), [click(user, "item-1")], within_s=_LONG_S)
    assert not covered.stale and covered.ranking is not None and known is not None
    assert covered.ranking.applied["clicks"] > known.applied.get("clicks", -1)


def test_rankings_are_followed(client: Client, user: str) -> None:
    """What is known comes first, then what comes, each newer than the one before."""
    known = client.rank(shown(user, "item-1", "item-2"), within_s=_LONG_S).ranking
    assert known is not None
    rankings = client.follow(user)
    assert next(rankings) == known
    (accepted,) = client.send(click(user, "item-2"))
    revisions = [known.revision]
    for ranking in rankings:
        assert ranking.user_id == user
        revisions.append(ranking.revision)
        if ranking.applied.get("clicks", -1) >= accepted.offset:
            break
    assert revisions == sorted(set(revisions))
    rankings.close()


INVALID = {
    "no action": Interaction(user_id="bad", item_id="i"),
    "an empty list": CandidateList(request_id="r", user_id="bad", items=[]),
    "seconds": Interaction(user_id="bad", item_id="i", action="click", ts=1_700_000_000),
    "a number as an id": Interaction(user_id="bad", item_id=5, action="click"),  # type: ignore[arg-type]
    "too early an end": CandidateList(
        request_id="r",
        user_id="bad",
        items=[Candidate(item_id="i")],
        ts=1_700_000_000_000,
        expires_at=1_600_000_000_000,
    ),
    "an item of the future": Item(item_id="bad", published_at=9_000_000_000_000_000),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_record_that_no_worker_takes_is_refused_in_its_words(
    installation: Installation, client: Client, case: str
) -> None:
    """The error is the one that the dead letter of the same record has, and nothing of the call was sent."""
    record = INVALID[case]
    together = [Interaction(user_id="bad", item_id="i", action="view")] if isinstance(record, Interaction) else []
    topic = {Interaction: "clicks" if getattr(record, "action", None) else "interactions", CandidateList: "candidates",
             Item: "items"}[type(record)]  # fmt: skip
    ends = [sum(1 for _ in installation.read(name)) for name in ("views", topic)]
    with pytest.raises(InvalidRecord) as refused:
        client.send(*together, record)
    assert ends == [sum(1 for _ in installation.read(name)) for name in ("views", topic)]
    place = (topic, *installation.send(topic, "bad", msgspec.json.encode(record)))

    def letter() -> object:
        letters = installation.dead_letters()
        return next((one for one in letters if (one.topic, one.partition, one.offset) == place), None)

    found = eventually("its dead letter", letter)
    assert refused.value.reason == found.reason
    if case != "an item of the future":  # which says how far ahead it is
        assert refused.value.error == found.error


def test_what_a_worker_alone_can_refuse_ends_the_wait(client: Client, user: str) -> None:
    """An action that the model's schema has not: the dead letter is the answer, not the deadline."""
    stare = Interaction(user_id=user, item_id="item-1", action="stare")
    with pytest.raises(InvalidRecord, match="the action 'stare' is given; valid are view, click"):
        client.rank(shown(user, "item-1"), [stare], within_s=_LONG_S)
    with pytest.raises(InvalidRecord, match="user_id of event 0 is 'other'"):
        client.rank(shown(user, "item-1"), [click("other", "item-1")], within_s=_LONG_S)


def test_a_client_that_is_closed_says_so(installation: Installation) -> None:
    """Who follows meanwhile comes to an end, and a second close is none."""
    client = Client(settings=installation.settings)
    ended = threading.Event()

    def follow() -> None:
        for _ in client.follow("nobody"):
            pass
        ended.set()

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    client.ranking("nobody")
    client.close()
    client.close()
    assert ended.wait(30)
    with pytest.raises(LiverankError, match="closed"):
        client.send(click("u", "i"))


async def test_many_wait_at_once(installation: Installation, user: str) -> None:
    """One awaited client serves many users side by side."""
    async with AsyncClient(settings=installation.settings, give_up_after_s=_LONG_S) as client:
        users = [f"{user}-{number}" for number in range(50)]
        found = await asyncio.gather(*(client.rank(shown(one, "a", "b"), [click(one, "b")], _LONG_S) for one in users))
    assert [one.ranking.user_id for one in found if one.ranking is not None and not one.stale] == users


def run_python(installation: Installation, code: list[str], typed: str = "", **environment: str) -> str:
    """What a program prints that finds this installation in its environment."""
    own = environment_of(installation.settings) | {"PYTHONPATH": str(REPOSITORY), "LIVERANK_GATEWAY_TOKEN": _TOKEN}
    ran = subprocess.run(
        [sys.executable, *code], input=typed, capture_output=True, text=True, check=False, cwd=installation.folder,
        env=os.environ | own | environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_examples_of_the_docs_run(installation: Installation) -> None:
    """As docs/client.md has them: a click, and a conversation of two turns."""
    code, conversation = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/client.md").read_text(), re.DOTALL)
    last = run_python(installation, ["-c", code]).splitlines()
    assert last[0].endswith("covers the click")
    assert len(last) == 2
    turns = run_python(installation, ["-c", conversation]).splitlines()
    assert [turn.split(" [")[0] for turn in turns] == ["something red for the city", "but with gears"]


def test_the_example_program_shows_a_list_after_each_click(installation: Installation, gateway: GatewayProcess) -> None:
    """Three clicks, four lists of the same items, each up to date; by Kafka's addresses or a gateway's."""
    program = str(REPOSITORY / "examples/client.py")
    for arguments, brokers in (
        ([], installation.settings.broker.addresses),
        (["--gateway", gateway.address], "nobody:1"),
    ):
        typed = "cocoa\ncocoa\nmug\n"
        lines = run_python(installation, [program, *arguments], typed, LIVERANK_BROKERS=brokers).splitlines()
        assert len(lines) == 4
        items = {tuple(sorted(line.strip().split(", "))) for line in lines}
        assert items == {("cocoa", "coffee", "kettle", "mug", "tea")}
