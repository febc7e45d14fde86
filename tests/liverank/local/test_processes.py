"""Processes of the demo: what ended is told with the end of its log, and none outlives the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from liverank.local.processes import Process, ProcessError
from liverank.settings import Settings, changed, environment_of, load_settings

# A worker for a broker that is not there: it tries for a while.
NOWHERE = {"LIVERANK_BROKERS": "127.0.0.1:1", "LIVERANK_METRICS_PORT": "-1"}


def is_gone(pid: int) -> bool:
    """Whether no such process runs; one that waits to be reaped does not."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    """An error names command, status and the last lines of its output, at once rather than at the deadline."""
    process = Process(["rank", "absent.jsonl"], {"LIVERANK_REGISTRY": "nowhere"}, tmp_path)
    with pytest.raises(ProcessError, match=r"(?s)liverank rank absent.jsonl ended with status 1.*has no model"):
        process.await_file(tmp_path / "never", deadline_s=120)
    process.stop()


def test_what_is_not_ready_in_time_is_told(tmp_path: Path) -> None:
    """The deadline passes while the process lives; stop ends it, also twice."""
    process = Process(["worker"], NOWHERE, tmp_path)
    process.check()
    with pytest.raises(ProcessError, match=r"liverank worker was not ready within 0 s; .*\n\(nothing was logged\)"):
        process.await_file(tmp_path / "never", deadline_s=0.1)
    process.stop()
    with pytest.raises(ProcessError, match="ended"):
        process.check()
    process.stop()


def test_a_process_without_a_page_says_so(tmp_path: Path) -> None:
    """The page's address is what the process logged; where it logged none, that is the error, with its log."""
    process = Process(["worker"], NOWHERE, tmp_path)
    try:
        with pytest.raises(ProcessError, match="liverank worker shows no metrics: its log names no address"):
            process.page()
    finally:
        process.stop()


def test_the_page_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read where the process says it is, whatever proxy the environment names; without an answer, an error."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    registry = CollectorRegistry()
    Counter("liverank_things", "", registry=registry).inc(3)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    process = Process(["worker"], NOWHERE, tmp_path)
    try:
        process.log.write_text(f"INFO metrics at http://127.0.0.1:{server.server_port}/metrics\n")
        assert "liverank_things_total 3.0" in process.page()
        server.shutdown()
        server.server_close()
        with pytest.raises(ProcessError, match=r"liverank worker shows no metrics: .*refused"):
            process.page()
    finally:
        process.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not tell of a parent's end")
def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """kill -9 of the process that started one ends it too."""
    script = (
        "import sys; from pathlib import Path; from liverank.local.processes import Process\n"
        f"process = Process(['worker'], {NOWHERE}, Path(sys.argv[1]))\n"
        "print(process.pid, flush=True); input()"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while not is_gone(pid):
        assert time.monotonic() < deadline, "the worker outlived the demo"
        time.sleep(0.05)


def test_settings_as_the_environment_has_them(tmp_path: Path) -> None:
    """What goes into a process's environment is read back as it was; what is not named stays out."""
    settings = changed(
        Settings(), brokers="b:1", data=tmp_path, metrics_port=-1, ready_file=tmp_path / "ready", batch=7
    )
    environment = environment_of(settings, "BROKERS", "DATA", "METRICS_PORT", "READY_FILE")
    assert load_settings(environ=environment) == changed(
        Settings(), brokers="b:1", data=tmp_path, metrics_port=-1, ready_file=tmp_path / "ready"
    )
    assert os.environ.get("LIVERANK_METRICS_PORT") != "-1"
