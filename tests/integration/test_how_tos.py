"""The shell commands of the how-tos, from the first line to the last, as somebody pastes them (those of
docs/client.md are Python: `test_client`).

What a page says of addresses is put right for this installation: the broker's, and the port that was free.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from liverank.client import Candidate, CandidateList, Client, Interaction, Item
from liverank.settings import environment_of
from tests.support.installation import REPOSITORY, Installation
from tests.support.waiting import eventually

_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_ADDRESS = re.compile(r"at http://([\w.]+):(\d+)")
_TIME_IS_UP = 28  # curl's status where --max-time ended what has no end of its own


def blocks(page: str, language: str) -> list[str]:
    """What a page has of a language, in its order."""
    found = _BLOCK.findall((REPOSITORY / "docs" / page).read_text(encoding="utf-8"))
    return [code for named, code in found if named == language]


def shell(installation: Installation, code: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end; the first command that fails ends it."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=installation.folder, env=surroundings(installation),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def surroundings(installation: Installation) -> dict[str, str]:
    """The environment of somebody who has liverank installed, and this installation's settings."""
    here = str(Path(sys.executable).parent)
    found = os.environ | environment_of(installation.settings) | {"PATH": f"{here}:{os.environ['PATH']}"}
    return found | {"LIVERANK_GATEWAY_PORT": "0", "LIVERANK_WEB_PORT": "0", "PYTHONPATH": str(REPOSITORY)}


@contextmanager
def started(installation: Installation, code: str, folder: Path) -> Iterator[str]:
    """What a page has one start: it runs until the block is left; its address, as this machine reaches it."""
    brokers = f"LIVERANK_BROKERS={installation.settings.broker.addresses}"
    own = re.sub(r"^pip install .*\n", "", code.replace("LIVERANK_BROKERS=127.0.0.1:9092", brokers), flags=re.MULTILINE)
    assert own.count("\n") == code.count("\n") - code.count("pip install")
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", own], cwd=installation.folder, env=surroundings(installation),
            stdout=written, stderr=written, start_new_session=True,
        )  # fmt: skip

    def address() -> str:
        assert process.poll() is None, log.read_text()
        found = _ADDRESS.search(log.read_text())
        return f"127.0.0.1:{found[2]}" if found is not None else ""

    try:
        yield eventually("it answers", address)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def known(installation: Installation) -> Installation:
    """A system that knows the items and the user of whom the pages speak."""
    page = CandidateList(request_id="page-1", user_id="u1", items=[Candidate(item_id=one) for one in ("i7", "i9")])
    with Client(settings=installation.settings) as client:
        client.send(*(Item(item_id=f"i{at}", title=f"Bicycle {at}", category="bikes") for at in range(12)))
        ranked = client.rank(page, [Interaction(user_id="u1", item_id="i9", action="click")], within_s=60.0)
    assert not ranked.stale
    return installation


@pytest.mark.parametrize("page", ["gateway.md", "web.md"])
def test_a_server_is_started_and_asked(known: Installation, page: str, tmp_path: Path) -> None:
    """What it starts for this machine answers every command of the page; what it starts for others asks for a token."""
    here, for_others = blocks(page, "")
    asked = blocks(page, "sh")
    assert asked
    with started(known, here, tmp_path) as address:
        for code in asked:
            ran = shell(known, re.sub(r"127\.0\.0\.1:80[89]0", address, code).replace("$TOKEN", "none"))
            streams = "--max-time" in code
            assert ran.returncode in ((0, _TIME_IS_UP) if streams else (0,)), ran.stderr
            assert ran.stdout and '"error"' not in ran.stdout, f"{code}\n{ran.stdout}"
            assert not streams or "\ndata: {" in ran.stdout, ran.stdout
    with started(known, for_others, tmp_path) as address:
        ran = shell(known, f"curl -s -w ' %{{http_code}}' http://{address}/v1/users/u1/ranking")
        assert ran.stdout.endswith(" 401"), ran.stdout


def test_items_are_explained(known: Installation) -> None:
    """Every command of the page: the newest list, the one that is named, and the file."""
    (code,) = blocks("explanations.md", "sh")
    newest, named, file = (shell(known, line) for line in code.splitlines())
    assert (newest.returncode, named.returncode, file.returncode) == (0, 0, 0), (
        newest.stderr + named.stderr + file.stderr
    )
    assert newest.stdout.startswith("u1, list ")
    assert named.stdout.startswith("u1, list page-1, by ")
    assert all(f". {item} (Bicycle {item[1:]}): " in named.stdout for item in ("i7", "i9"))
    (item,) = json.loads((known.folder / "why.json").read_text(encoding="utf-8"))["items"]
    assert any(reason["kind"] == "event" and reason["item_id"] == "i9" for reason in item["reasons"])
