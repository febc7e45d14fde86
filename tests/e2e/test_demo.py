"""The whole loop: `liverank demo` as a person runs it, on a made-up cinema and an Apache Kafka of its own."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("Western", "Musical", "Horror")
# Versions in quick succession, which the gate lets pass whatever the few clicks of six users say.
SECONDS = "20"  # time for several of them, on a slow machine too
QUICK = {"LIVERANK_BUNDLE_S": "1", "LIVERANK_GATE_LEAST": "1", "LIVERANK_GATE_MARGIN": "1"}


@pytest.fixture(scope="module")
def cinema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data in MovieLens-100K's form: 60 films of three kinds, and 40 people who each like one kind."""
    folder, rng = tmp_path_factory.mktemp("cinema"), random.Random(0)
    films = [f"{number}\tFilm {number}\t{1950 + number}\t{KINDS[number % 3]}" for number in range(60)]
    ratings = []
    for person in range(40):
        liked = rng.sample([number for number in range(60) if number % 3 == person % 3], 12)
        ratings += [f"{person}\t{film}\t5\t{880_000_000 + rng.randrange(10**6)}" for film in liked]
        ratings.append(f"{person}\t{rng.choice([0, 1, 2])}\t1\t880000000")
    (folder / "ml-100k.item").write_text("\n".join(["item_id:token\ttitle\tyear\tclass", *films]) + "\n")
    (folder / "ml-100k.inter").write_text("\n".join(["user_id:token\titem\trating\tts", *ratings]) + "\n")
    return folder


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The folder for temporary files; whatever happens in a demo, nothing of ours is left there, and no process."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    assert list(folder.glob("liverank-*")) == []  # torch leaves empty folders of its own
    assert processes_in(folder) == []


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose environment names a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def read_all(terminal: int) -> str:
    """Everything a program writes to its terminal, until it closes it."""
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not chunk:
            break
        written += chunk
    os.close(terminal)
    return written.decode(errors="replace")


def plain(screen: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)


def start(
    temporary: Path,
    cinema: Path,
    *arguments: str,
    stdout: int = subprocess.PIPE,
    **environment: str,
) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "liverank", "demo", "--data", str(cinema), "--users", "6"]
    return subprocess.Popen(
        [*argv, *arguments],
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
    )  # fmt: skip


def assert_all_is_well(found: dict[str, Any]) -> None:
    """What a report says: every event has its ranking, none was refused; versions of the trainer have replaced each
    other meanwhile, none was refused either, and every click is in the weights that rank.
    """
    assert found["broker"]["kind"] == "kafka"
    assert found["events"] == found["lists"] + found["clicks"] == found["rankings"] > 20
    assert found["dead_letters"] == 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert all(0 < found["mrr"][order] <= 1 for order in ("shown", "liverank"))
    assert len(found["training"]["sha256"]) == 64
    assert found["training"]["examples"] > 300
    assert found["swaps"] >= 2, found["bundles"]
    assert found["swap_errors"] == 0
    assert found["bundles"]["promoted"] > found["swaps"]  # the first one came before the time began
    assert found["model_version"] > found["training"]["version"]
    assert found["freshness_s"]["n"] == found["clicks"]
    assert found["freshness_s"]["never"] == 0
    assert 0 < found["freshness_s"]["p50"] <= found["freshness_s"]["p99"]


def test_headless(temporary: Path, cinema: Path, tmp_path: Path) -> None:
    """It ends by itself with status 0 and a report, and nothing is left."""
    report = tmp_path / "demo.json"
    arguments = ("--headless", "--seconds", SECONDS, "--rate", "30", "--json", str(report))
    with start(temporary, cinema, *arguments, **QUICK) as demo:
        output, _ = demo.communicate(timeout=240)
    assert demo.returncode == 0, output
    found = json.loads(report.read_text())
    assert_all_is_well(found)
    assert found["broker"]["address"] in output
    assert re.search(r"page: http://127\.0\.0\.1:\d+", output)


@pytest.mark.slow
def test_live_view(temporary: Path, cinema: Path, tmp_path: Path) -> None:
    """On a terminal it draws the lists, with arrows where films move, the versions that come, and the figures, and asks
    for no key.
    """
    ours, theirs = pty.openpty()
    report, terminal = tmp_path / "demo.json", {"TERM": "xterm", "COLUMNS": "160", "LINES": "50"}
    arguments = ("--seconds", SECONDS, "--rate", "30", "--json", str(report))
    with start(temporary, cinema, *arguments, stdout=theirs, **terminal, **QUICK) as demo:
        os.close(theirs)
        screen = read_all(ours)
        assert demo.wait(60) == 0, screen
    text = plain(screen)
    assert re.search(r"[1-9]\d* events/s, latency p50 \d+\.\d ms", text)
    assert re.search(r"[1-9]\d* clicks, MRR shown 0\.\d+, liverank 0\.\d+", text)
    assert re.search(r"model \d{8}T\d{9}-[0-9a-f]{6} since \d+\.\d s, swaps [1-9]\d*, refused 0", text)
    assert re.search(r"● +\d+ s \d{9}-[0-9a-f]{6} promoted reciprocal rank", text)
    assert "unknown to the model: Film" in screen
    assert {"↑", "↓", "✓"} <= set(screen)
    assert_all_is_well(json.loads(report.read_text()))


def test_ctrl_c_ends_it_with_its_figures(temporary: Path, cinema: Path, tmp_path: Path) -> None:
    """Without --seconds it goes on until Ctrl-C; then it reports as if its time were over, without a terminal too."""
    report = tmp_path / "demo.json"
    with start(temporary, cinema, "--json", str(report)) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "until Ctrl-C" in line:
                break
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, output
    assert json.loads(report.read_text())["rankings"] >= 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_before_the_users_come(ending: signal.Signals, temporary: Path, cinema: Path) -> None:
    """While it sets up, a signal ends it too, and what it had started is gone."""
    with start(temporary, cinema, "--headless") as demo:
        assert demo.stdout is not None
        assert "broker: kafka" in demo.stdout.readline()
        demo.send_signal(ending)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode not in (0, None)
    assert "Traceback" not in output, output


@pytest.mark.parametrize(
    ("process", "setting", "problem"),
    [
        ("worker", {"LIVERANK_METRICS_HOST": "256.0.0.1"}, "of 256.0.0.1 cannot be listened on"),
        pytest.param(
            "trainer",
            {"LIVERANK_TRACKING": "mlflow:http://127.0.0.1:1"},
            "needs a library: pip install mlflow-skinny",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_process_that_ends_is_one_readable_error(
    process: str, setting: dict[str, str], problem: str, temporary: Path, cinema: Path
) -> None:
    """The error has the last words of worker or trainer; the broker, the other process and all files are gone."""
    with start(temporary, cinema, "--headless", **setting) as demo:
        output, _ = demo.communicate(timeout=240)
    assert demo.returncode == 1
    assert f"error: liverank {process} ended with status" in output
    assert problem in output
    assert "Traceback" not in output, output


@pytest.mark.parametrize(
    ("arguments", "problem", "status"),
    [
        (("--broker", "pigeon"), "unknown broker 'pigeon'", 1),
        (("--users", "0"), "greater than or", 2),
        (("--data", "/nowhere"), "/nowhere", 1),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], problem: str, status: int, temporary: Path, cinema: Path) -> None:
    """What cannot work is one readable line."""
    with start(temporary, cinema, "--headless", *arguments) as demo:
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == status
    assert problem in output
    assert "Traceback" not in output, output
