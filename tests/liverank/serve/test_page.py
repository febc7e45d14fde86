"""The page says how a process is, and a port or a folder that is taken is one sentence."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from liverank.local.ports import free_ports
from liverank.serve.own_folder import held
from liverank.serve.page import open_page
from ranker.contracts.errors import LiverankError
from tests.support.waiting import eventually


def answer(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_page_answers_as_the_process_is() -> None:
    """Each question is asked anew: 200 where all is well, 503 with what is not; the numbers are beside them."""
    registry, wrong = CollectorRegistry(), {"ready": "recovering rows", "live": ""}
    Counter("seen", "Seen", registry=registry).inc(3)
    (port,) = free_ports(1)
    open_page("127.0.0.1", port, "")(registry, lambda: wrong["ready"] or None, lambda: wrong["live"] or None)
    assert answer(port, "/ready") == (503, "recovering rows\n")
    assert answer(port, "/live") == (200, "alive\n")
    wrong |= {"ready": "", "live": "stuck"}
    assert answer(port, "/ready") == (200, "ready\n")
    assert answer(port, "/live") == (503, "stuck\n")
    assert "seen_total 3.0" in answer(port, "/metrics")[1]


def test_who_goes_away_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    """A probe of the port alone, which resets its connection: the log has no traceback for each."""
    (port,) = free_ports(1)
    open_page("127.0.0.1", port, "")(CollectorRegistry(), lambda: None, lambda: None)
    before = set(threading.enumerate())
    probe = socket.create_connection(("127.0.0.1", port))
    eventually("it is taken up", lambda: set(threading.enumerate()) - before)
    (asked,) = set(threading.enumerate()) - before
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    probe.close()
    asked.join(30)
    assert answer(port, "/live")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_one_sentence() -> None:
    """With what would be right."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LiverankError, match=rf"^port {port} of 127.0.0.1 is taken: give another$"):
            open_page("127.0.0.1", port, "give another")(CollectorRegistry(), lambda: None, lambda: None)


def test_no_page_is_opened_where_it_is_turned_off() -> None:
    """A port of -1."""
    open_page("256.0.0.1", -1, "")(CollectorRegistry(), lambda: None, lambda: None)


def test_a_folder_is_one_process_own(tmp_path: Path) -> None:
    """Who comes second hears who holds it; afterwards it is free."""
    folder = tmp_path / "{odd}" / "worker"
    with (
        held(folder, ""),
        pytest.raises(LiverankError, match=r"^held by \d+, give another$"),
        held(folder, "held by {holder}, give another"),
    ):
        pass
    with held(folder, ""):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file stands where the folder would."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LiverankError, match="cannot be written"), held(tmp_path / "file" / "worker", ""):
        pass
