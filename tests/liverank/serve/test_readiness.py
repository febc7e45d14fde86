"""The file that says that a process is ready: gone when it starts, and sure to be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liverank.serve.readiness import not_ready
from ranker.contracts.errors import LiverankError

#: By command, the variable that names its file.
PROCESSES = {
    "worker": "LIVERANK_READY_FILE",
    "trainer": "LIVERANK_READY_FILE",
    "gateway": "LIVERANK_GATEWAY_READY_FILE",
    "web": "LIVERANK_WEB_READY_FILE",
}


def test_what_another_process_left_is_gone(tmp_path: Path) -> None:
    """It was ready, this one is not. A folder that is missing is made, and nothing is left in it."""
    file = tmp_path / "run" / "liverank" / "ready"
    not_ready(file)
    file.write_text("1\n")
    not_ready(file)
    assert not list(file.parent.iterdir())
    not_ready(None)


@pytest.mark.parametrize(("command", "variable"), PROCESSES.items())
def test_one_that_cannot_be_written_is_said_at_once(tmp_path: Path, command: str, variable: str) -> None:
    """Whoever waits for it would wait for ever: the process ends before it looks for a broker, with one line."""
    (tmp_path / "file").touch()
    given = {variable: str(tmp_path / "file" / "ready"), "LIVERANK_METRICS_PORT": "-1"}
    own = {"LIVERANK_DATA": str(tmp_path / "data"), "LIVERANK_TRAINER_DATA": str(tmp_path / "trainer")}
    ended = subprocess.run(
        [sys.executable, "-m", "liverank", command], env=os.environ | given | own, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert f"the ready file {tmp_path / 'file' / 'ready'} cannot be written" in " ".join(ended.stderr.split())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The path names something else."""
    with pytest.raises(LiverankError, match=r"the ready file .* cannot be written"):
        not_ready(tmp_path)
