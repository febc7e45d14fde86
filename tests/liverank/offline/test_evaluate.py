"""An evaluation of a folder from nothing: modes, peers, differences, the curve and its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.offline.curve import curve_points, draw_curve, drawn_points, judged_report, last_quarter, require_drawing
from liverank.offline.evaluate import Question, run_evaluation
from liverank.settings import Settings
from online_learning.evaluation.list_peers import AskedList, list_peers
from online_learning.evaluation.lists import Judged
from online_learning.folder.log import open_folder
from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import FeatureSchema
from tests.support.command import run_command
from tests.support.folders import START, folder_of, shop


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shop(tmp_path_factory.mktemp("shop"), users=15)
    (folder / "items.csv").unlink()  # their texts would be encoded
    return folder


def evaluated(log: Path, **question: Any) -> dict[str, Any]:
    """The report on a folder."""
    return run_evaluation(open_folder(log), log, Settings(), Question(**question), lambda _: None)


def values(figures: dict[str, Any]) -> dict[str, float]:
    """Ranker -> MRR."""
    return {name: found["mrr"]["value"] for name, found in figures.items()}


def test_empty_and_frozen_is_the_order_shown(log: Path) -> None:
    """To all digits, in every part of the report; and nothing differs from it."""
    found = evaluated(log, origin="empty")
    assert found["n"] == 75
    assert found["rankers"]["liverank"] == found["rankers"]["shown"]
    assert found["differences"]["shown"]["mrr"] == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert all(point["mrr"]["liverank"] == point["mrr"]["shown"] for point in found["curve"])


def test_empty_and_online_learns_from_the_shown_order_on(log: Path) -> None:
    """It learns that people buy what they looked at, and is above the shown order, from which it started."""
    found = evaluated(log, origin="empty", mode="online", sync_ms=60_000, offline=True)
    assert set(values(found["rankers"])) == {"liverank", *list_peers(FeatureSchema())}
    assert set(found["last_quarter"]) == {*found["rankers"], "offline"}
    assert found["last_quarter_differences"]["shown"]["mrr"]["low"] > 0
    assert sum(point["n"] for point in found["curve"]) == found["n"] == 75
    assert found["bundles"]["served"] > 5


def test_frozen_from_the_starter_has_a_curve_too(log: Path) -> None:
    """The same report in both modes; without learning there is nothing to sync."""
    found = evaluated(log, origin="starter")
    assert {"rankers", "differences", "last_quarter", "curve"} <= set(found)
    assert "bundles" not in found
    assert values(found["rankers"])["liverank"] > values(found["rankers"])["shown"]


def test_recalled_lists_from_empty_keep_the_order_recalled(tmp_path: Path) -> None:
    """A log without lists is evaluated by next items: from `empty` too, with peers and a curve."""
    lines = "".join(f"u{at % 4},i{(at // 4) % 5},click,{START + at * 1000}\n" for at in range(200))
    config = "[data]\nrecall = 10\n"
    folder_of(tmp_path, {"interactions.csv": "user_id,item_id,action,ts\n" + lines, "liverank.toml": config})
    found = evaluated(tmp_path, origin="empty", mode="online", sync_ms=10_000)
    assert set(found["rankers"]) == {"liverank", "popularity", "markov", "neighbours"}
    assert found["differences"]["markov"]["mrr"]["high"] <= 0.5
    assert sum(point["n"] for point in found["curve"]) == found["n"]
    with pytest.raises(LiverankError, match="--offline is for lists that were logged"):
        evaluated(tmp_path, origin="empty", offline=True)


@pytest.mark.parametrize(
    ("users", "says"), [(1, "are of one user: there are no intervals"), (3, "are of 3 users"), (25, None)]
)
def test_a_test_of_few_people_says_so(tmp_path: Path, users: int, says: str | None) -> None:
    """A day of one person is no proof: what is printed is JSON with null for bounds, and a note says why."""
    folder = shop(tmp_path / "log", users=users, lists_each=30 // users or 1)
    (folder / "items.csv").unlink()
    ran = run_command("evaluate", folder, "--from", "empty", "--json", tmp_path / "report.json")
    assert ran.code == 0
    found = json.loads((tmp_path / "report.json").read_text())
    assert found == json.loads(ran.out, parse_constant=pytest.fail)
    assert found["users"] == users
    told = [note for note in found["notes"] if "choices of the test" in note]
    assert len(told) == (says is not None) and all(str(says) in note for note in told)
    difference = found["differences"]["touched"]["mrr"]
    assert (difference["low"] is None) == (difference["p"] is None) == (users == 1)


PEER = """
class Backwards:
    def rank(self, asked):
        return range(len(asked.items))
    def learn(self, record):
        pass
"""


def test_the_command_draws_and_asks_a_persons_own_peer(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--peer` and `--png` beside each other: the peer is in report, differences and curve, and a PNG is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "backwards_of_test.py").write_text(PEER)
    arguments = ["--from", "empty", "--peer", "backwards_of_test:Backwards", "--png", "curve.png", "--json", "o.json"]
    ran = CliRunner().invoke(app, ["evaluate", str(log), *arguments])
    assert ran.exit_code == 0, ran.exception
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert '"backwards_of_test:Backwards": {"mrr"' in (tmp_path / "o.json").read_text().replace("\n", "").replace(
        "  ", ""
    )


def test_a_picture_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    """Before the evaluation, which may take hours."""
    with pytest.raises(LiverankError, match="nowhere is no folder"):
        require_drawing(tmp_path / "nowhere" / "curve.png")


def judged(ranks: dict[str, list[int]]) -> Judged:
    """Queries a second and 600 events apart."""
    n = len(ranks["liverank"])
    found = {name: np.array(given) for name, given in ranks.items()}
    return Judged(1000 * np.arange(n), 600 * np.arange(1, n + 1), np.array([f"u{at % 5}" for at in range(n)]), found)


def test_the_curve_has_a_point_for_each_thousand_events() -> None:
    """Events 600, 1200, ... 4800: the points hold 1, 2, 2, 1 and 2 of them; what was not found counts as 0."""
    curve = curve_points(600 * np.arange(1, 9), {"liverank": np.array([1, 2, 0, 1, 1, 4, 1, 1])})
    assert [(point["events"], point["n"]) for point in curve] == [(1000, 1), (2000, 2), (3000, 2), (4000, 1), (5000, 2)]
    assert [point["mrr"]["liverank"] for point in curve] == [1, 0.25, 1, 0.25, 1]


def test_a_model_trained_offline_is_compared_where_it_was_asked() -> None:
    """In the last quarter, its differences and its points alone."""
    given = judged({"liverank": [2] * 8, "shown": [4] * 8})
    found = judged_report(given, np.array([1, 1]))
    assert values(found["rankers"]) == {"liverank": 0.5, "shown": 0.25}
    assert values(found["last_quarter"]) == {"liverank": 0.5, "shown": 0.25, "offline": 1.0}
    assert found["last_quarter_differences"]["offline"]["mrr"]["value"] == -0.5
    assert [set(point["mrr"]) for point in found["curve"]][-1] == {"liverank", "shown", "offline"}
    assert all("offline" not in point["mrr"] for point in found["curve"][:-1])


@pytest.mark.parametrize(
    ("times", "expected"), [([5], 1), ([1, 2], 1), ([1, 2, 3, 4, 5, 6, 7, 8], 2), ([1, 1, 1, 1], 4)]
)
def test_the_last_quarter_is_never_empty(times: list[int], expected: int) -> None:
    """Choices at one time belong together."""
    assert int(last_quarter(np.array(times)).sum()) == expected


def test_drawn_points_hold_enough_choices() -> None:
    """Neighbours are joined, weighted by their choices; the rest of a curve is drawn too."""
    curve = [{"events": 1000 * at, "n": n, "mrr": {"liverank": mrr}} for at, n, mrr in ((1, 150, 0.2), (2, 50, 0.6))]
    curve.append({"events": 3000, "n": 10, "mrr": {"liverank": 1.0, "offline": 1.0}})
    assert drawn_points(curve) == {
        "liverank": ([2000, 3000], [pytest.approx(0.3), 1.0]), "offline": ([3000], [1.0])
    }  # fmt: skip


def test_a_curve_of_one_point_is_drawn(tmp_path: Path) -> None:
    """A small log has no more."""
    draw_curve([{"events": 1000, "n": 3, "mrr": {"liverank": 0.5}}], tmp_path / "c.png", "small")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_what_is_asked_is_no_answer() -> None:
    """A peer is told user, time and items, not what was chosen."""
    assert AskedList._fields == ("user_id", "ts", "items")
