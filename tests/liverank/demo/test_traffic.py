"""The demo's measurements: what a click counts, and which ranking it is held against."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console, ConsoleDimensions

from liverank.demo.learning import Learning, Pages
from liverank.demo.traffic import Tally, Traffic, all_or_first_error, set_within
from liverank.demo.view import DemoView, arrow, screen
from liverank.simulate.tastes import Taste
from liverank.simulate.users import PopularityRecall, SimulatedUser
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Cause, Interaction, ModelUpdate, RankedItem, Ranking

TITLES = {f"film-{number}": f"Film {number}" for number in range(60)}


def a_ranking(user_id: str, request_id: str, items: list[str], applied: dict[str, int], revision: int = 1) -> Ranking:
    cause = Cause(kind="clicks", topic="clicks", partition=0, offset=0, ts=0)
    lines = [
        RankedItem(item_id=item, rank=rank, previous_rank=None, score=1 / rank, probabilities={})
        for rank, item in enumerate(items, 1)
    ]
    return Ranking(
        ranking_id=f"{user_id}:{revision}", user_id=user_id, revision=revision, applied=applied,
        request_id=request_id, ts=0, model="m1", cause=cause, items=lines,
    )  # fmt: skip


class Silence:
    """A consumer to which nothing comes."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.Event().wait()


class Loopback:
    """Broker and worker in one: gives offsets, and after a moment a ranking that turns the list round."""

    def __init__(self) -> None:
        self.traffic: Traffic | None = None
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.lists: dict[str, dict[str, Any]] = {}
        self.applied: dict[str, dict[str, int]] = {}

    async def send_and_wait(self, topic: str, value: bytes, key: bytes) -> SimpleNamespace:
        record = msgspec.json.decode(value)
        user, offset = key.decode(), len(self.sent)
        self.sent.append((topic, record))
        if topic == "candidates":
            self.lists[user] = record
        asyncio.get_running_loop().call_later(0.005, self.rank, user, topic, offset)
        return SimpleNamespace(topic=topic, offset=offset)

    def rank(self, user: str, topic: str, offset: int) -> None:
        asked = self.lists[user]
        items = [candidate["item_id"] for candidate in asked["items"]][::-1]
        self.applied.setdefault(user, {})[topic] = offset
        ranking = a_ranking(user, asked["request_id"], items, self.applied[user], revision=offset)
        assert self.traffic is not None
        self.traffic.took(SimpleNamespace(topic="rankings", value=msgspec.json.encode(ranking)))


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    producer = Loopback()
    producer.traffic = Traffic(producer, [Silence()], Tally(), Learning("demo"))
    yield producer
    await producer.traffic.close()


@pytest.fixture
def users() -> list[SimulatedUser]:
    recall = PopularityRecall(Counter(TITLES.keys()))
    taste = Taste({film: Random(film).gauss(0, 1) for film in TITLES})
    return [SimulatedUser(f"u{number}", taste, recall, seed=number) for number in range(3)]


async def run_for(seconds: float, loopback: Loopback, users: list[SimulatedUser], rate: float = 300) -> Tally:
    assert loopback.traffic is not None
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    await loopback.traffic.run(users, rate, Random(0), stop)
    return loopback.traffic.tally


async def test_every_event_is_counted_with_its_latency(loopback: Loopback, users: list[SimulatedUser]) -> None:
    """Lists, clicks and rankings add up; a latency is the time from the hand-over to the covering ranking's arrival."""
    tally = await run_for(0.5, loopback, users)
    kinds = Counter(topic for topic, _ in loopback.sent)
    assert (tally.lists, tally.clicks) == (kinds["candidates"], kinds["clicks"])
    assert tally.events == tally.rankings == len(tally.latencies_ms) > 10
    assert min(tally.latencies_ms) >= 5
    report = tally.report()
    assert report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["model_version"] == "m1"


async def test_a_click_is_held_against_both_orders(loopback: Loopback, users: list[SimulatedUser]) -> None:
    """For each click: its place in the order shown and in the newest ranking, both without what was clicked before."""
    tally = await run_for(0.5, loopback, users[:1], rate=100)
    shown: list[str] = []
    expected = []
    for topic, record in loopback.sent:
        if topic == "candidates":
            shown = [candidate["item_id"] for candidate in record["items"]]
            continue
        place = shown.index(record["item_id"])
        expected.append((1 / (place + 1), 1 / (len(shown) - place)))
        shown.remove(record["item_id"])
    assert tally.shown == pytest.approx([by_popularity for by_popularity, _ in expected])
    assert tally.liverank == pytest.approx([by_liverank for _, by_liverank in expected])


async def test_the_next_click_waits_for_the_ranking(loopback: Loopback, users: list[SimulatedUser]) -> None:
    """A user who is faster than the worker clicks when the ranking is there: each has one event under way."""
    tally = await run_for(0.3, loopback, users[:1], rate=10_000)
    assert 10 < tally.events <= 0.3 / 0.005 + 1


async def test_only_the_measured_users_count(loopback: Loopback, users: list[SimulatedUser]) -> None:
    """The warm-up and whoever else uses the broker leave the figures as they are; dead letters all count."""
    assert loopback.traffic is not None
    await loopback.traffic.warm_up(users[2])
    stranger = a_ranking("stranger", "r", ["a"], {"candidates": 0})
    loopback.traffic.took(SimpleNamespace(topic="rankings", value=msgspec.json.encode(stranger)))
    loopback.traffic.took(SimpleNamespace(topic="dead-letters", value=b"{}"))
    tally = loopback.traffic.tally
    assert (tally.events, tally.rankings, tally.dead_letters, tally.shown) == (0, 0, 1, [])
    assert tally.report()["mrr"] == {"shown": None, "liverank": None}


async def test_the_first_error_ends_all() -> None:
    """An error of one is raised as it is, and the others do not go on."""
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        raise LiverankError("the worker ended")

    with pytest.raises(LiverankError, match="the worker ended"):
        await all_or_first_error([endless(), failing()])
    assert ended.is_set()


async def test_waiting_for_an_event_or_the_time() -> None:
    """True where the event was set in time, also where no time is left; False otherwise."""
    event = asyncio.Event()
    assert not await set_within(event, -1)
    assert not await set_within(event, 0.01)
    event.set()
    assert await set_within(event, 5)
    assert await set_within(event, -1)


@pytest.mark.parametrize(("rank", "previous", "shown"), [(1, 4, "↑3"), (4, 1, "↓3"), (2, 2, ""), (2, None, "")])
def test_arrows_tell_how_far_a_film_moved(rank: int, previous: int | None, shown: str) -> None:
    """Up for a better rank than before, nothing in the first ranking of a list."""
    line = RankedItem(item_id="a", rank=rank, previous_rank=previous, score=0.0, probabilities={})
    assert arrow(line).plain == shown


def test_the_screen_shows_lists_and_figures(users: list[SimulatedUser]) -> None:
    """Titles in liverank's order with a tick where clicked, the hidden taste, and the figures, before any and after."""
    user = users[0]
    user.next_record(0)
    click = user.next_record(0)
    assert isinstance(click, Interaction)
    ranking = a_ranking("u0", user.request_id, [click.item_id, *user.shown], {})
    shown = DemoView(Tally(), Learning("demo"), Pages(), users, nothing, TITLES)
    text = drawn(shown, 200, 50)
    assert "MRR shown -, liverank -" in text
    assert "no version was announced yet" in text
    shown.tally.click(click.item_id, user.shown, ranking, [])
    shown.tally.event(click, 3.14, ranking)
    text = drawn(
        msgspec.structs.replace(shown, newest=lambda name, request: ranking if name == "u0" else None), 200, 50
    )
    assert f"✓ {TITLES[click.item_id]}" in text
    assert f"unknown to the model: {TITLES[user.taste.favourites(1)[0]]}" in text
    assert "p50 3.1 ms" in text
    assert "liverank 1.000" in text


def test_the_screen_shows_what_is_learned(users: list[SimulatedUser]) -> None:
    """The serving version and its swaps, the age of the rows, the newest announcements; a dot marks what serves."""
    learning, pages = Learning("demo"), Pages(refused=2, windows=[{"trainer": 0.3, "serving": 0.2, "first": 0.1}])
    for number in range(6):
        update = ModelUpdate(
            model="demo", version=f"2026T{number}", sha256="", reason=f"why {number}", ts=1000 * number
        )
        learning.took(SimpleNamespace(topic="model-updates", value=msgspec.json.encode(update)))
        learning.ranked(msgspec.structs.replace(a_ranking("u0", "r", [], {}), model=f"2026T{number}"), 1000 * number)
    delta = b'{"model": "demo", "base": "2026T4", "sequence": 5500, "learned_until": 0, "rows": {}}'
    learning.took(SimpleNamespace(topic="model-deltas", value=delta))
    text = drawn(DemoView(Tally(), learning, pages, users, nothing, TITLES), 100, 30, now=7000)
    assert "model 2026T5 since 2.0 s, swaps 5, refused 2" in text
    assert "last delta 1.5 s ago" in text
    assert "trainer 0.300, serving 0.200, first 0.100" in text
    assert [line.split() for line in text.splitlines() if "why" in line] == [
        ["●", "2", "s", "5", "promoted", "why", "5"],
        *([f"{7 - number}", "s", f"{number}", "promoted", "why", f"{number}"] for number in (4, 3, 2)),
    ]


@pytest.mark.parametrize(("width", "height", "beside"), [(80, 24, 2), (100, 30, 2), (160, 50, 3), (40, 20, 1)])
def test_the_screen_is_no_larger_than_the_terminal(
    width: int, height: int, beside: int, users: list[SimulatedUser]
) -> None:
    """As many lists stand side by side as fit, nothing wraps, and the announcements are not pushed out."""
    rankings = {}
    for user in users:
        user.next_record(0)
        rankings[user.user_id, user.request_id] = a_ranking(user.user_id, user.request_id, user.shown, {})
    learning = Learning("demo")
    for number in range(6):
        update = ModelUpdate(model="demo", version=f"2026T{number}", sha256="", reason="why " * 50, ts=0)
        learning.took(SimpleNamespace(topic="model-updates", value=msgspec.json.encode(update)))
    titles = {film: f"{title}, a title that is too long for any column" for film, title in TITLES.items()}
    shown = DemoView(Tally(), learning, Pages(), users, lambda *named: rankings[named], titles)
    lines = drawn(shown, width, height).splitlines()
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width
    assert max(line.count("╭") for line in lines) == beside
    assert sum("promoted" in line for line in lines) == 4
    assert lines[-1].strip() == "Ctrl-C ends it"


def nothing(user_id: str, request_id: str) -> Ranking | None:
    """No ranking came."""
    return None


def drawn(shown: DemoView, width: int, height: int, now: int = 0) -> str:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(screen(shown, ConsoleDimensions(width, height), now))
    return captured.get()
