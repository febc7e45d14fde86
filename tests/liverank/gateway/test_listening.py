"""The address of a gateway or a page."""

from __future__ import annotations

import socket

import pytest

from liverank.gateway.process import listening
from ranker.contracts.errors import LiverankError


def test_an_answer_waits_for_no_acknowledgement() -> None:
    """What is written goes out at once on each connection that is taken (TCP_NODELAY): head and body are two writes."""
    with listening("127.0.0.1", 0, "") as listener, socket.create_connection(listener.getsockname()):
        taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_an_address_that_is_taken_is_one_sentence() -> None:
    """Which, and what would be right."""
    with (
        listening("127.0.0.1", 0, "") as listener,
        pytest.raises(LiverankError, match=r"port \d+ of 127.0.0.1 is taken: take another"),
        listening("127.0.0.1", listener.getsockname()[1], "take another"),
    ):
        pass
