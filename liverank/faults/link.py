"""The line between a process and its brokers, which can be cut: TCP connections passed on by this process.

A cut line loses no packet for good, as TCP has it: bytes wait on both sides until it is whole again, or both ends of
each connection are reset, as a router does that has forgotten them. A connection begun meanwhile gets no answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress

_CHUNK = 1 << 16
_STARTED_S = 10.0


class Link:
    """Passes connections on, on a thread of its own, from `open` to `close`."""

    def __init__(self, forwards: Mapping[int, int]) -> None:
        """
        Args:
            forwards: port of 127.0.0.1 that it listens on -> port of 127.0.0.1 that it connects to.
        """
        self._forwards = dict(forwards)
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._delay_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="link")

    def open(self) -> None:
        """Begin to listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_STARTED_S)

    def cut(self) -> None:
        """Let nothing through any more."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self, *, reset: bool) -> None:
        """Let everything through again.

        Args:
            reset: end the connections that there were.
        """

        def mend() -> None:
            if reset:
                for task in self._tasks:
                    task.cancel()
            self._whole.set()

        self._loop.call_soon_threadsafe(mend)

    def slow(self, delay_s: float) -> None:
        """Hold each piece of data for so long; 0: for no time."""
        self._delay_s = delay_s

    def close(self) -> None:
        """End every connection, and the thread."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(_STARTED_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STARTED_S)

    async def _listen(self) -> None:
        self._whole.set()
        for port, to in self._forwards.items():

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int = to) -> None:
                task = asyncio.create_task(self._connection(reader, writer, to))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            self._servers.append(await asyncio.start_server(accept, "127.0.0.1", port, limit=_CHUNK))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int) -> None:
        ends = [writer]
        try:
            await self._whole.wait()
            answers, onward = await asyncio.open_connection("127.0.0.1", to, limit=_CHUNK)
            ends.append(onward)
            ways = [asyncio.create_task(self._pass(*way)) for way in ((reader, onward), (answers, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # a broker that is down refuses; a line that is reset ends
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes one way, to the end."""
        with suppress(OSError):
            while piece := await reader.read(_CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()
