"""A client where it cannot be used: each time one sentence, and never a wait without an end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from liverank.client import AsyncClient, Candidate, CandidateList, Client, Interaction, InvalidRecord, Unavailable
from liverank.client.http import OverGateway
from liverank.settings import Settings, changed
from ranker.contracts.errors import LiverankError
from tests.support.installation import REPOSITORY

NOWHERE = changed(Settings(), brokers="127.0.0.1:1")
CLICK = Interaction(user_id="u", item_id="i", action="click")
LIST = CandidateList(request_id="r", user_id="u", items=[Candidate(item_id="i")])
FORKED = """
import os, sys
from liverank.client import Client, Interaction, LiverankError
client = Client(*sys.argv[1:])
if os.fork() == 0:
    try:
        client.send(Interaction(user_id="u", item_id="i", action="click"))
    except LiverankError as error:
        print(error, flush=True)
    client.close()
    os._exit(0)
os.wait()
client.close()
print("closed")
"""


@pytest.fixture(params=[None, "http://127.0.0.1:1"], ids=["brokers", "gateway"])
def address(request: pytest.FixtureRequest) -> str | None:
    """Of a gateway that is none, or None for brokers that are none: nothing here is to reach anybody."""
    found: str | None = request.param
    return found


def test_after_a_fork_it_says_so(address: str | None) -> None:
    """As servers do that load an application once and then fork; its own process goes on with it."""
    given = [] if address is None else [address]
    ran = subprocess.run(
        [sys.executable, "-c", FORKED, *given], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    said, closed = ran.stdout.splitlines()
    assert said.endswith("make one in each process") and closed == "closed"


async def test_after_its_end_it_says_so(address: str | None) -> None:
    """Whatever is asked of it; a second end is none."""
    client = AsyncClient(address, settings=NOWHERE)
    await client.aclose()
    await client.aclose()
    for asked in (client.send(CLICK), client.rank(LIST), client.ranking("u"), anext(client.follow("u"))):
        with pytest.raises(LiverankError, match=r"^this client is closed; make another one$"):
            await asked


def test_on_another_event_loop_it_says_so(address: str | None) -> None:
    """As where a program calls `asyncio.run` twice: what came would be told to the loop that is gone."""
    client = AsyncClient(address, settings=NOWHERE, give_up_after_s=0.1)

    async def sends() -> None:
        await client.send(CLICK)

    with pytest.raises(Unavailable):
        asyncio.run(sends())
    with pytest.raises(LiverankError, match="belongs to the event loop that asked it first"):
        asyncio.run(sends())
    asyncio.run(client.aclose())


async def test_who_waits_when_it_ends_is_told() -> None:
    """No broker has confirmed the record, and none will."""
    client = AsyncClient(settings=NOWHERE, give_up_after_s=600)
    waiting = asyncio.create_task(client.send(CLICK))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(Unavailable, match="a record for clicks was not delivered"):
        await waiting


@pytest.mark.parametrize("given", [[CLICK], {"user_id": "u"}, "u", None], ids=lambda given: type(given).__name__)
def test_what_is_no_record_is_named(address: str | None, given: Any) -> None:
    """A list in the place of its records, a dict in the place of a struct."""
    with Client(address, settings=NOWHERE) as client:
        kind = type(given).__name__
        with pytest.raises(InvalidRecord, match=f"^a {kind} is given where a record belongs: give Interaction or Can"):
            client.send(given)
        with pytest.raises(InvalidRecord, match=f"^a {kind} .* give CandidateList$"):
            client.rank(given)
        with pytest.raises(InvalidRecord, match=f"^a {kind} .* give Interaction$"):
            client.rank_group(["u"], LIST, [given])


def test_what_can_reach_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address, a span of time, a token; the token is not shown."""
    for wrong in ("http://h:99999", "http://[::1", "h:1", "http://", "ftp://h", "http://u@h"):
        with pytest.raises(LiverankError, match="a gateway's address is http://host:port"):
            AsyncClient(wrong)
    for span in (0, -1, float("nan")):
        with pytest.raises(LiverankError, match=r"give_up_after_s is .*; it must be above 0"):
            AsyncClient(settings=NOWHERE, give_up_after_s=span)
    monkeypatch.setenv("LIVERANK_GATEWAY_TOKEN", "two words\nof it")
    with pytest.raises(LiverankError, match="holds no token") as refused:
        AsyncClient("http://h")
    assert "two" not in str(refused.value)


class _Answering(BaseHTTPRequestHandler):
    """Says which token came and on which connection, and closes each after its answer, unsaid."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.headers.get("Authorization", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def answering() -> Iterator[str]:
    """Its address."""
    with HTTPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_connections_that_were_closed_meanwhile_cost_nothing(answering: str) -> None:
    """A gateway closes what rests, and all when it is started again: the next question goes over a new one, at once."""
    way = OverGateway(answering, "token", 1e-9)  # no second try
    assert way._tried("GET", "/", None, 0) == b"Bearer token"
    (rested,) = way._idle
    assert isinstance(rested.sock, socket.socket)
    while rested.sock.recv(1, socket.MSG_PEEK):
        pass  # until it is closed
    assert way._tried("GET", "/", None, 0) == b"Bearer token"
    asyncio.run(way.close())


def test_a_token_may_end_in_a_line_break(answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a file or of a secret does; the gateway takes it so, too."""
    monkeypatch.setenv("LIVERANK_GATEWAY_TOKEN", "token\n")
    client = AsyncClient(answering)
    way = client._way
    assert isinstance(way, OverGateway)
    assert way._tried("GET", "/", None, 0) == b"Bearer token"
    asyncio.run(client.aclose())
