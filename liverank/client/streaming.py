"""A gateway's event stream as rankings, on a thread: opened again where it breaks, read no faster than it is taken."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelled
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse

import msgspec

from liverank.client.errors import Unavailable
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Ranking

_HELD, _AGAIN_S, _CLOSE_S = 16, 0.5, 2.0
_LISTS = 16  # of one user, whose newest revision is remembered
_DATA = b"data: "
_ranking = msgspec.json.Decoder(Ranking)


class RankingStream:
    """The rankings of one user; one that is not newer than what came of its list is left out."""

    def __init__(
        self, opened: Callable[[], tuple[HTTPConnection, HTTPResponse]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """
        Args:
            opened: asks the gateway for the stream.
            loop: that takes the rankings.
        """
        self._opened, self._loop = opened, loop
        self._came: asyncio.Queue[Ranking | LiverankError] = asyncio.Queue(_HELD)
        self._newest: dict[str, tuple[int, int]] = {}
        self._closed = threading.Event()
        self._connection: HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="liverank-following", daemon=True)
        self._thread.start()

    async def next(self) -> Ranking:
        """Wait for the next one.

        Raises:
            LiverankError: the gateway gives this client no stream.
        """
        found = await self._came.get()
        if isinstance(found, LiverankError):
            raise found
        return found

    def close(self) -> None:
        """End; called on another thread than the loop's."""
        self._closed.set()
        self._interrupt()
        self._thread.join(_CLOSE_S)

    def _interrupt(self) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._connection, response = self._opened()
                for line in response:
                    if self._closed.is_set():
                        return
                    if line.startswith(_DATA):
                        self._take(_ranking.decode(line[len(_DATA) :]))
            except (Unavailable, OSError, HTTPException, msgspec.DecodeError):
                pass  # it comes back, or another one takes its place
            except LiverankError as error:
                self._hand_on(error)
                return
            except (FutureCancelled, RuntimeError):  # the loop has ended
                return
            finally:
                if self._connection is not None:
                    self._connection.close()
            self._closed.wait(_AGAIN_S)

    def _take(self, ranking: Ranking) -> None:
        place, known = (ranking.epoch, ranking.revision), self._newest.pop(ranking.request_id, None)
        self._newest[ranking.request_id] = max(place, known) if known is not None else place
        if len(self._newest) > _LISTS:
            del self._newest[next(iter(self._newest))]
        if known is None or place > known:
            self._hand_on(ranking)

    def _hand_on(self, found: Ranking | LiverankError) -> None:
        """Wait until there is room: the gateway then keeps the newest of each list for us."""
        waiting = asyncio.run_coroutine_threadsafe(self._came.put(found), self._loop)
        while not self._closed.is_set():
            with suppress(TimeoutError):
                waiting.result(_AGAIN_S)
                return
        waiting.cancel()
