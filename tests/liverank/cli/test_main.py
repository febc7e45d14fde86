"""The command line: help with an example, results as JSON, and errors as one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from liverank.cli.main import app
from tests.support.command import COMMANDS as ALL
from tests.support.tiny import tiny_bundle

COMMANDS = (
    ["worker"], ["gateway"], ["web"], ["topics", "create"], ["topics", "check"], ["topics", "acls"], ["keys", "new"],
    ["model", "sign"], ["train"], ["evaluate"], ["replay"], ["rank"],
    ["model", "show"], ["model", "verify"], ["schema"], ["demo"], ["up"], ["broker"], ["dead-letters"], ["state"],
    ["config", "show"], ["init"], ["data", "check"], ["data", "convert"],
)  # fmt: skip


def liverank(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "liverank", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    """Whoever asks a command for help sees how it is called."""
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example:  " in shown.output
    assert f"liverank {' '.join(command)}" in " ".join(shown.output.split())


def test_a_key_pair_is_made_and_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private key is nobody else's to read and not shown; a bundle from before is signed, and says by whom."""
    key = tmp_path / "trainer.key"
    made = CliRunner().invoke(app, ["keys", "new", "--out", str(key), "--name", "someone"])
    private = key.read_text().strip()
    assert key.stat().st_mode & 0o777 == 0o600
    assert private not in made.output
    _, _, public = made.output.partition("LIVERANK_PUBLIC_KEYS=")
    version = tiny_bundle(tmp_path / "registry")
    for name, value in (("REGISTRY", str(tmp_path / "registry")), ("PUBLIC_KEYS", public.strip()),
                        ("REQUIRE_SIGNATURES", "true"), ("DATA", str(tmp_path / "data"))):  # fmt: skip
        monkeypatch.setenv(f"LIVERANK_{name}", value)
    assert '"signature": "not signed"' in CliRunner().invoke(app, ["model", "show"]).output
    refused = CliRunner().invoke(app, ["rank", str(key), "--version", version])
    assert "is not signed, and require_signatures is set" in str(refused.exception)
    assert "LIVERANK_SIGNING_KEY is not set" in str(CliRunner().invoke(app, ["model", "sign"]).exception)
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", private)
    assert f"{version}: signed by someone" in CliRunner().invoke(app, ["model", "sign"]).output
    assert '"signature": "signed by someone"' in CliRunner().invoke(app, ["model", "show"]).output
    again = CliRunner().invoke(app, ["keys", "new", "--out", str(key)])
    assert isinstance(again.exception, FileExistsError)
    assert key.read_text().strip() == private


def test_rank_reads_events_and_prints_the_list(tmp_path: Path) -> None:
    """Offline, from one file: the list is ranked, a withdrawn item is not in it, and the JSON is a ranking record."""
    tiny_bundle(tmp_path / "registry")
    events = tmp_path / "events.jsonl"
    events.write_text(
        '{"item_id":"item-1","title":"A lamp"}\n'
        '{"user_id":"u","request_id":"r","items":[{"item_id":"item-1"},{"item_id":"item-2"},{"item_id":"new"}]}\n'
        '{"user_id":"u","item_id":"item-2"}\n'
        '{"topic":"items","key":"new","value":null}\n',
        encoding="utf-8",
    )
    out = tmp_path / "out.json"
    ran = liverank("rank", str(events), "--registry", str(tmp_path / "registry"), "--json", str(out),
                   LIVERANK_DATA=str(tmp_path / "data"))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ranking = json.loads(out.read_text())
    assert {line["item_id"] for line in ranking["items"]} == {"item-1", "item-2"}
    assert ranking["revision"] == 2
    assert ranking["applied"] == {"candidates": 1, "clicks": 2}


#: They have no result but what they do.
WITHOUT_RESULT = {
    ("worker",),
    ("trainer",),
    ("gateway",),
    ("web",),
    ("up",),
    ("broker",),
    ("schema",),
    ("keys", "new"),
    ("topics", "acls"),
}


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_one_name_for_one_thing(names: tuple[str, ...]) -> None:
    """A result is written by --json, a registry named by --registry, a time by --since and --until, in every command;
    an option says what it is for."""
    shown = [option for option in ALL[names].params if not option.hidden]
    options = {name for option in shown for name in option.opts}
    assert ("--json" in options) == (names not in WITHOUT_RESULT)
    elsewhere = {("evaluate",): "--from", ("data", "convert"): "--out", ("schema",): "--out", ("keys", "new"): "--out"}
    for wrong, right in (("--from", "--since"), ("--to", "--until"), ("--out", "--registry")):
        assert wrong not in options or elsewhere.get(names) == wrong, f"{wrong} is {right}"
    assert not [option.name for option in shown if not option.help]


@pytest.mark.parametrize(
    ("names", "earlier"),
    [(("train",), "--out"), (("replay",), "--from"), (("replay",), "--to"), (("model", "show"), "earlier")],
)
def test_earlier_names_go_on_to_work(names: tuple[str, ...], earlier: str) -> None:
    """What was documented once is still taken, and told to nobody."""
    (option,) = [option for option in ALL[names].params if earlier in (*option.opts, option.name)]
    assert option.hidden


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_what_help_says_is_shown_whole(names: tuple[str, ...]) -> None:
    """Square brackets are markup of whoever draws the help: what stands in them would be missing."""
    said = [ALL[names].help, ALL[names].epilog, *(getattr(option, "help", "") for option in ALL[names].params)]
    assert not [text for text in said if "[" in (text or "")]
