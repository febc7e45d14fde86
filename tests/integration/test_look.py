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
    places = [installation.send("clicks", f"u{number}", b"{no json") for number in range(6)]
    installation.all_handled()
    found = asked(installation, monkeypatch, tmp_path / "out", "dead-letters", "--newest", "4")["dead_letters"]
    assert len(found) == 4
    assert {letter["reason"] for letter in found} == {"not-json"}
    assert {(letter["partition"], letter["offset"]) for letter in found} <= set(places)
    assert (found[-1]["key"], found[-1]["value"]) == ("u5", "{no json")


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
