"""The command line: help with an example, results as JSON, and errors as one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from liverank.cli import data
from liverank.cli.main import app
from ranker.contracts.errors import LiverankError
from tests.support.tiny import tiny_bundle

COMMANDS = (
    ["worker"], ["topics", "create"], ["topics", "check"], ["train"], ["evaluate"], ["replay"], ["rank"],
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rank", "absent.jsonl"], "has no model 'default'; `liverank train` makes a first one"),
        (["model", "verify"], "has no model 'default'"),
        (
            ["train", "nothing", "--data", "x"],
            "there is no folder and no data set 'nothing'; give a folder of files, or one of trivago",
        ),
        (["train"], "or on the topics with --from-kafka: give one of them"),
        (["train", "--from-kafka"], "no Kafka broker answers at 127.0.0.1:1"),
        (["evaluate", "trivago", "--data", "x", "--test-from", "soon"], "'soon' is no time"),
        (["replay", "absent.jsonl"], "there is no folder and no data set 'absent.jsonl'"),
        (["topics", "check"], "no Kafka broker answers at 127.0.0.1:1"),
        (["schema", "--out", "/proc/no-folder"], "/proc/no-folder"),
    ],
)
def test_errors_are_one_readable_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    """A wrong call names the problem and what would be right, without a traceback, and exits 1."""
    ran = liverank(
        *arguments,
        LIVERANK_REGISTRY=str(tmp_path / "none"),
        LIVERANK_DATA=str(tmp_path),
        LIVERANK_BROKERS="127.0.0.1:1",
    )
    assert ran.returncode == 1
    assert says in ran.stderr.replace("\n", " ")
    assert "Traceback" not in ran.stderr


def test_since_is_a_time_or_so_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """ISO 8601, in UTC where it names no zone; or a duration before now."""
    monkeypatch.setattr(data, "now_ms", lambda: 1_700_000_000_000)
    assert data._since("7d") == 1_700_000_000_000 - 7 * 86_400_000
    assert data._since("1.5h") == 1_700_000_000_000 - 5_400_000
    assert data._since("2023-11-14T22:13:20") == 1_700_000_000_000
    assert data._since(None) is None
    with pytest.raises(LiverankError, match="'7 days' is no time"):
        data._since("7 days")


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """An unknown key of liverank.toml and a value of the wrong type both say which."""
    config = tmp_path / "liverank.toml"
    config.write_text("[liverank]\nbrocker = 'x'\n", encoding="utf-8")
    assert "brocker" in liverank("topics", "check", "--config", str(config)).stderr
    assert "batch" in liverank("topics", "check", LIVERANK_BATCH="many").stderr
