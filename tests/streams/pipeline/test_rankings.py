"""Jobs in groups that the model takes, and what goes out of a ranking."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from ranker.contracts.inputs import Position
from ranker.contracts.records import Ranking
from ranker.serving.options import RankingDetail
from ranker.serving.ranking import Ranked
from ranker.state.row import EVENT, CurrentList, UserRow
from streams.pipeline.jobs import RankList
from streams.pipeline.rankings import Rankings, _waves
from streams.settings import WorkerSettings
from streams.state.recent import RecentRows
from streams.telemetry.metrics import Metrics


def job(user: bytes, request: str, events: int) -> RankList:
    listed = CurrentList(1, request, None, {}, ("a",), (), b"")
    row = UserRow(count=events, events=bytes(events * EVENT.itemsize), lists=(listed,))
    return RankList(user, row, Position("clicks", 0, 0, 0), "click")


def test_a_user_comes_into_a_group_with_one_history() -> None:
    """Lists of one row stand together; an older row of the user waits for the next group."""
    jobs = [job(b"u", "r1", 2), job(b"v", "r1", 1), job(b"u", "r2", 2), job(b"u", "r3", 1), job(b"w", "r1", 0)]
    groups = [[(one.user, one.row.lists[0].request_id) for one in wave] for wave in _waves(jobs)]
    assert groups == [[(b"u", "r1"), (b"u", "r2"), (b"v", "r1"), (b"w", "r1")], [(b"u", "r3")]]


class Sent:
    """Notes the rankings that are sent."""

    def __init__(self) -> None:
        self.rankings: list[Ranking] = []

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        self.rankings.append(msgspec.json.decode(value, type=Ranking))


def rankings(sent: Any, **given: Any) -> Rankings:
    """Rankings of a worker with these settings."""
    none: Any = None
    return Rankings(
        settings=WorkerSettings(**given), slot=none, deltas=none, recent=RecentRows(), examples=none, watch=none,
        outbox=sent, dead_letters=none, metrics=Metrics(), again=lambda: None,
    )  # fmt: skip


def ranked_as(order: str, items: str = "abc") -> Ranked:
    """The list in this order."""
    places = np.array([items.index(item) for item in order])
    return Ranked(tuple(items), places, np.linspace(0.9, 0.1, len(order)), np.full((len(order), 1), 0.5), ("click",))


def job_of(items: str, revision: int) -> RankList:
    """A list to rank."""
    row = UserRow(revision=revision, lists=(CurrentList(1, "r", None, {}, tuple(items), (), b""),))
    return RankList(b"u", row, Position("clicks", 0, revision, 0), "click")


MODEL: Any = SimpleNamespace(version="v", sequence=0)


def test_previous_ranks_are_those_of_the_ranking_before() -> None:
    """By item where the list came anew with others; what was not shown has none, nor has anything at first."""
    sent = Sent()
    made = rankings(sent)
    for revision, (items, order) in enumerate([("abc", "cab"), ("abc", "ab"), ("abc", "bca"), ("zcb", "zcb")], 1):
        made.send(MODEL, job_of(items, revision), ranked_as(order, items))
    found = [{line.item_id: line.previous_rank for line in one.items} for one in sent.rankings]
    assert found == [
        {"c": None, "a": None, "b": None}, {"a": 2, "b": 3}, {"b": 2, "c": None, "a": 1}, {"z": None, "c": 2, "b": 1},
    ]  # fmt: skip
    last = made.last("u")["r"]
    assert (last.revision, last.listed, last.ranks.tolist(), last.earlier) == (4, tuple("zcb"), [1, 2, 3], ())


@pytest.mark.parametrize(
    ("detail", "first"),
    [("full", (0.9, {"click": 0.5})), ("scores", (0.9, {})), ("order", (None, {}))],
)
def test_a_ranking_says_what_the_worker_is_told_to(detail: RankingDetail, first: tuple[float | None, dict]) -> None:
    """Ranks always; scores and probabilities as set."""
    sent = Sent()
    rankings(sent, ranking_detail=detail).send(MODEL, job_of("abc", 1), ranked_as("cab"))
    (line, *_) = sent.rankings[0].items
    assert (line.item_id, line.rank) == ("c", 1)
    assert (line.score, line.probabilities) == first
