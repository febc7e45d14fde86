"""Looking into a running system from outside: refused inputs, and a user's row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.settings import environment_of
from tests.support.installation import Installation


def asked(installation: Installation, monkeypatch: pytest.MonkeyPatch, out: Path, *command: str) -> dict:
    """What a command writes as JSON, told by the environment where the system is."""
    for name, value in environment_of(installation.settings).items():
        monkeypatch.setenv(name, value)
    ran = CliRunner().invoke(app, [*command, "--json", str(out)])
    assert ran.exit_code == 0, ran.output
    return json.loads(out.read_text())


def test_the_newest_dead_letters(installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The newest of all partitions, newest last, with reason, place and bytes."""
    places = [installation.send("clicks", f"u{number}", b"{no json") for number in range(5)]
    installation.all_handled()  # inputs of several partitions are handled in any order
    places.append(installation.send("clicks", "u5", b"{no json"))
    installation.all_handled()
    found = asked(installation, monkeypatch, tmp_path / "out", "dead-letters", "--newest", "4")["dead_letters"]
    assert len(found) == 4
    assert {letter["reason"] for letter in found} == {"not-json"}
    assert {(letter["partition"], letter["offset"]) for letter in found} <= set(places)
    assert (found[-1]["key"], found[-1]["value"]) == ("u5", "{no json")
    installation.send("dead-letters", "stranger", b"no letter of ours")
    after = asked(installation, monkeypatch, tmp_path / "out", "dead-letters", "--newest", "100")["dead_letters"]
    assert after[-4:] == found, "what somebody else has sent there is left out"


def test_the_state_of_a_user(installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was folded, with actions by name; a user who never came is one readable error."""
    listed = [{"item_id": "item-1"}, {"item_id": "item-2"}]
    installation.send("candidates", "looked-at", {"user_id": "looked-at", "request_id": "r1", "items": listed})
    installation.send("views", "looked-at", {"user_id": "looked-at", "item_id": "item-1"})
    installation.send("clicks", "looked-at", {"user_id": "looked-at", "item_id": "item-2"})
    installation.all_handled()
    found = asked(installation, monkeypatch, tmp_path / "out", "state", "looked-at")
    assert (found["revision"], found["count"]) == (3, 2)
    assert [listed["items"] for listed in found["lists"]] == [["item-1", "item-2"]]
    assert sorted(event["action"] for event in found["events"]) == ["click", "view"]
    missing = CliRunner().invoke(app, ["state", "nobody"])
    assert "no worker has a row of user 'nobody'" in str(missing.exception)


def test_why_a_list_is_ranked_as_it_is(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scores are those of the user's newest ranking, and each event is named with its item, for people too."""
    user = "explained"
    listed = [{"item_id": f"item-{number}"} for number in range(6)]
    installation.send("items", "item-2", {"item_id": "item-2", "title": "A [red] hat"})
    installation.send("candidates", user, {"user_id": user, "request_id": "r1", "items": listed})
    installation.send("views", user, {"user_id": user, "item_id": "item-4"})
    installation.send("clicks", user, {"user_id": user, "item_id": "item-2"})
    installation.all_handled()
    ranking = max((one for one in installation.rankings() if one.user_id == user), key=lambda one: one.revision)
    assert ranking.revision == 3
    found = asked(installation, monkeypatch, tmp_path / "out", "explain", user, "--most", "6")
    assert (found["request_id"], found["events"], found["model"]) == ("r1", 2, ranking.model)
    assert [one["item_id"] for one in found["items"]] == [line.item_id for line in ranking.items]
    for one, line in zip(found["items"], ranking.items, strict=True):
        assert (one["rank"], one["score"]) == (line.rank, pytest.approx(line.score, abs=1e-5))
        told = {reason["item_id"]: reason["name"] for reason in one["reasons"] if reason["kind"] == "event"}
        assert told == {"item-4": "view", "item-2": "click"}
    ran = CliRunner().invoke(app, ["explain", user, "item-2", "--request", "r1"])
    assert ran.exit_code == 0, ran.output
    assert "item-2 (A [red] hat)" in ran.output and "the same item" in ran.output and "without it" in ran.output
    for arguments, error in (
        (["nobody"], "no worker has a row of user 'nobody'"), ([user, "hat"], "hat is not in the list 'r1'"),
        ([user, "--request", "r9"], "no current list 'r9'; current: r1"),
    ):  # fmt: skip
        assert error in str(CliRunner().invoke(app, ["explain", *arguments]).exception)
    missing = CliRunner().invoke(app, ["explain", user], env={"LIVERANK_TOPICS_MODEL_DELTAS": "nowhere"})
    assert "the topic nowhere does not exist on" in str(missing.exception)
