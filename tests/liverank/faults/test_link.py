"""A line that can be cut, with real connections through it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from liverank.faults.link import Link
from liverank.local.ports import free_ports


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears."""

    def handle(self) -> None:
        """One connection."""
        while heard := self.request.recv(1 << 16):
            self.request.sendall(heard)


@pytest.fixture
def line() -> Iterator[tuple[Link, int]]:
    """A line to a server, and the port where it begins."""
    begins, ends = free_ports(2)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", ends), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        link = Link({begins: ends})
        link.open()
        try:
            yield link, begins
        finally:
            link.close()
            server.shutdown()


def connect(port: int) -> socket.socket:
    """A connection that gives up soon."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def said(connection: socket.socket, words: bytes) -> bytes:
    """What comes back."""
    connection.sendall(words)
    return heard(connection, len(words))


def heard(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        found += connection.recv(1 << 16)
    return found


def test_it_passes_bytes_on(line: tuple[Link, int]) -> None:
    """Both ways, many at once, of several connections."""
    link, port = line
    del link
    with connect(port) as one, connect(port) as other:
        assert said(one, b"x" * 1_000_000) == b"x" * 1_000_000
        assert said(other, b"hello") == b"hello"


def test_cut_it_lets_nothing_through_and_mended_everything(line: tuple[Link, int]) -> None:
    """Of what was sent meanwhile nothing is lost, and a connection that was begun meanwhile is answered then."""
    link, port = line
    with connect(port) as one:
        assert said(one, b"before") == b"before"
        link.cut()
        one.sendall(b"meanwhile")
        with connect(port) as other:
            other.sendall(b"new")
            for waits in (one, other):
                waits.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    waits.recv(1)
                waits.settimeout(10)
            link.mend(reset=False)
            assert heard(one, 9) == b"meanwhile"
            assert heard(other, 3) == b"new"


def test_it_may_be_mended_by_a_reset(line: tuple[Link, int]) -> None:
    """The connections that there were end; new ones pass."""
    link, port = line
    with connect(port) as one:
        assert said(one, b"before") == b"before"
        link.cut()
        link.mend(reset=True)
        try:
            ended = one.recv(1) == b""
        except ConnectionResetError:
            ended = True
        assert ended
    with connect(port) as other:
        assert said(other, b"after") == b"after"


def test_a_server_that_is_away_ends_the_connection(line: tuple[Link, int]) -> None:
    """As if it had been reached without a line."""
    begins, nobody = free_ports(2)
    link = Link({begins: nobody})
    link.open()
    try:
        with connect(begins) as one, suppress(ConnectionResetError):
            assert one.recv(1) == b""
    finally:
        link.close()
