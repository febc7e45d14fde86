"""Server-sent events: their form, and who gets which."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from liverank.web.events import NOTHING_NEW, Told, server_sent


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none()))
def test_an_event_is_one_line_of_json(content: dict[str, object]) -> None:
    """Whatever is in it, line breaks too."""
    name, data, *rest = server_sent("figures", content).decode().split("\n")
    assert (name, rest) == ("event: figures", ["", ""])
    assert "\r" not in data and msgspec.json.decode(data.removeprefix("data: ")) == content


async def test_whoever_is_slow_gets_the_newest_of_each_name() -> None:
    """And nothing twice; who comes late gets what is known."""
    told = Told()
    await told.tell("figures", 1)
    await told.tell("control", "a")
    await told.tell("figures", 2)
    turn, events = await told.after(0, 1.0)
    assert events == server_sent("control", "a") + server_sent("figures", 2)
    waiting = asyncio.create_task(told.after(turn, 30.0))
    await told.tell("figures", 3)
    assert (await waiting)[1] == server_sent("figures", 3)


async def test_who_waits_in_vain_hears_that_the_stream_stands() -> None:
    """A comment, which is no event."""
    assert await Told().after(0, 0.01) == (0, NOTHING_NEW)
    assert NOTHING_NEW.startswith(b":") and NOTHING_NEW.endswith(b"\n\n")
