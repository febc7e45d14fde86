"""Jobs in groups that the model takes, and what goes out of a ranking."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position
from ranker.contracts.records import Ranking
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import RankingDetail, ServingOptions
from ranker.serving.ranking import Ranked
from ranker.serving.slot import ModelSlot
from ranker.state.row import EVENT, CurrentList, UserRow
from streams.models.canary_watch import CanaryWatch
from streams.models.deltas import Deltas
from streams.pipeline.examples import Examples
from streams.pipeline.jobs import RankList
from streams.pipeline.rankings import Rankings, _waves
from streams.settings import WorkerSettings
from streams.state.recent import RecentRows
from streams.telemetry.metrics import Metrics
from tests.support.tiny import tiny_bundle


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

    def send(self, topic: str, key: bytes, value: bytes, **more: Any) -> None:
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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    """One that ranks."""
    home = tmp_path_factory.mktemp("registry")
    folder = fetch_bundle(RegistrySettings(address=str(home)), tiny_bundle(home), home / "local")
    return load_model(folder, Catalog(), ServingOptions())


class Worker:
    """The scorer's thread of a worker, and what it sends."""

    def __init__(self, model: ServingModel, **given: Any) -> None:
        settings, slot, sent = WorkerSettings(**given), ModelSlot(model), Sent()
        outbox: Any = sent
        none: Any = None
        self._metrics = metrics = Metrics()
        watch = CanaryWatch(settings, slot, {}, outbox, metrics.models, lambda: 1.0)
        self.rank = Rankings(
            settings=settings, slot=slot, deltas=Deltas(metrics.models), recent=RecentRows(),
            examples=Examples(settings, slot, outbox, watch, metrics), watch=watch, outbox=outbox, dead_letters=none,
            metrics=metrics, again=lambda: None,
        )  # fmt: skip
        self.sent = sent

    @property
    def reasons(self) -> list[tuple[str, list[int]]]:
        """Whose rankings were sent, in their order, and how many reasons each item has."""
        return [(one.user_id, [len(line.reasons) for line in one.items]) for one in self.sent.rankings]

    def counted(self, outcome: str) -> float | None:
        """Rankings of lists that ask, by what came of it."""
        return self._metrics.registry.get_sample_value("liverank_reasons_total", {"outcome": outcome})


def asking(user: bytes, reasons: int) -> RankList:
    """The list of somebody who has touched two of its items and one other; so many reasons are asked for."""
    events = np.zeros(3, EVENT)
    events["item"] = [hash_id(item) for item in ("item-1", "item-2", "x")]
    events["ts"] = events["id"] = [1, 2, 3]
    listed = CurrentList(9000, "r", None, {}, ("item-1", "item-2", "item-3"), (), b"", reasons=reasons)
    row = UserRow(revision=4, count=3, events=events.tobytes(), lists=(listed,))
    return RankList(user, row, Position("candidates", 0, 4, 0), "candidates")


def test_lists_that_ask_say_why_and_are_sent_last(model: ServingModel) -> None:
    """As many reasons of each item as are asked for; who does not ask waits for nobody's."""
    worker = Worker(model, reasons_ms=60_000)
    worker.rank([asking(b"u", 2), asking(b"v", 0), asking(b"w", 1)])
    assert worker.reasons == [("v", [0, 0, 0]), ("u", [2, 2, 2]), ("w", [1, 1, 1])]
    assert (worker.counted("told"), worker.counted("behind")) == (2, None)
    told = {line.item_id: line for line in worker.sent.rankings[1].items}
    plain = {line.item_id: line for line in worker.sent.rankings[0].items}
    for item, line in told.items():
        assert msgspec.structs.replace(line, reasons=[]) == plain[item], "nothing else is said differently"


def test_a_worker_that_is_behind_ranks_and_says_no_reasons(model: ServingModel) -> None:
    """Of a full batch, and where it is told to take no time for them; each such ranking is counted."""
    for given in ({"batch": 2}, {"reasons_ms": 0}):
        worker = Worker(model, **given)
        worker.rank([asking(b"u", 2), asking(b"v", 3)])
        assert worker.reasons == [("u", [0, 0, 0]), ("v", [0, 0, 0])]
        assert (worker.counted("told"), worker.counted("behind")) == (None, 2)


def test_reasons_that_cannot_be_found_cost_themselves(model: ServingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranking goes out, and the failure is counted."""

    def fails(*given: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("streams.pipeline.rankings.reasons_of", fails)
    worker = Worker(model, reasons_ms=60_000)
    worker.rank([asking(b"u", 2)])
    assert worker.reasons == [("u", [0, 0, 0])]
    assert (worker.counted("failed"), worker.counted("told")) == (1, None)
