"""A client's way over a gateway, with nothing but Python's own HTTP: the same questions, asked of another process."""

from __future__ import annotations

import asyncio
import selectors
import ssl
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import groupby
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from liverank.client.errors import Refused, Unavailable
from liverank.client.messages import Accepted, SentRecord, encoded, named
from liverank.client.streaming import RankingStream
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, Ranking, User

#: Where a gateway takes a record.
PATHS: dict[type, str] = {
    Interaction: "/v1/events", CandidateList: "/v1/candidates", Item: "/v1/items", User: "/v1/users",
    Erasure: "/v1/erasures",
}  # fmt: skip
_CONNECT_S, _ANSWER_S, _AGAIN_S = 5.0, 30.0, 0.2
_AT_ONCE, _BYTES_AT_ONCE = 500, 256 << 10
_CALLS = 32  # questions at once; each waits on a thread
_UNPROCESSABLE, _TOO_MANY, _AWAY, _NONE = 422, 429, 503, 404


class RankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway says to a list: its ranking, and where the broker has what was sent."""

    accepted: list[Accepted]
    stale: bool
    ranking: Ranking | None


class _Answers(msgspec.Struct):
    accepted: list[Accepted]


class _Problem(msgspec.Struct):
    error: str = ""
    reason: str = ""


class OverGateway:
    """Asks a gateway. What it does not take now is tried again for a while: events have names, so none counts twice."""

    def __init__(self, address: str, token: str, try_for_s: float) -> None:
        """
        Args:
            address: `http://host:port` or `https://host`.
            token: of this application; empty where the gateway asks for none.
            try_for_s: for how long to try again.

        Raises:
            LiverankError: the address is none.
        """
        self._address = address.rstrip("/")
        try:
            parts = urlsplit(self._address)
            host, self._port, self._root = parts.hostname, parts.port, parts.path
        except ValueError:  # a port above 65535, half of an IPv6 address
            parts, host = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise LiverankError("a gateway's address is http://host:port or https://host, without a user in it")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise LiverankError(
                "LIVERANK_GATEWAY_TOKEN holds no token: one is of letters and digits, without spaces, as "
                "LIVERANK_GATEWAY_TOKENS of the gateway has it"
            )
        self._host = host
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._try_for_s = try_for_s
        self._idle: list[HTTPConnection] = []
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(_CALLS, "liverank-gateway")

    async def send(self, records: Sequence[SentRecord]) -> list[Accepted]:
        """Send records in their order, those of one kind together."""
        now = now_ms()
        whole = [named(record, now) for record in records]
        accepted: list[Accepted] = []
        for path, bodies in _posts(whole):
            answer = await self._ask("POST", path, b"[" + b",".join(bodies) + b"]")
            accepted += msgspec.json.decode(answer, type=_Answers).accepted
        return accepted

    async def withdraw(self, item_ids: Sequence[str]) -> list[Accepted]:
        """Have items withdrawn, one after the other."""
        accepted: list[Accepted] = []
        for item_id in item_ids:
            path = f"{PATHS[Item]}/{quote(item_id, safe='')}"
            accepted += msgspec.json.decode(await self._ask("DELETE", path, None), type=_Answers).accepted
        return accepted

    async def rank(
        self, candidates: CandidateList, events: Sequence[Interaction], within_s: float
    ) -> tuple[Ranking | None, bool]:
        """A list, its events, and the wait for the ranking in one question."""
        now = now_ms()
        asked = {
            "candidates": msgspec.Raw(encoded(named(candidates, now))),
            "events": [msgspec.Raw(encoded(named(event, now))) for event in events],
            "within_ms": round(within_s * 1000),
        }
        answer = await self._ask("POST", "/v1/rank", msgspec.json.encode(asked), within_s)
        found = msgspec.json.decode(answer, type=RankAnswer)
        return found.ranking, found.stale

    async def ranking(self, user_id: str, request_id: str | None) -> Ranking | None:
        """The newest ranking that the gateway knows of a list, or of any list of the user."""
        query = f"?{urlencode({'request_id': request_id})}" if request_id is not None else ""
        answer = await self._ask("GET", f"/v1/users/{quote(user_id, safe='')}/ranking{query}", None)
        return msgspec.json.decode(answer, type=Ranking) if answer else None

    async def follow(self, user_id: str) -> AsyncGenerator[Ranking]:
        """A user's rankings from now on, those that the gateway knows first; over broken connections too."""
        stream = RankingStream(lambda: self._opened(user_id), asyncio.get_running_loop())
        try:
            while True:
                yield await stream.next()
        finally:
            await asyncio.to_thread(stream.close)

    async def close(self) -> None:
        """End."""
        self._closing.set()
        for connection in self._idle:
            connection.close()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _opened(self, user_id: str) -> tuple[HTTPConnection, HTTPResponse]:
        connection = self._connection()
        path = f"{self._root}/v1/users/{quote(user_id, safe='')}/rankings"
        connection.request("GET", path, None, self._headers | {"Accept": "text/event-stream"})
        response = connection.getresponse()
        if response.status >= 300:
            problem = _problem(response.status, response.read())
            connection.close()
            raise problem
        return connection, response

    async def _ask(self, method: str, path: str, body: bytes | None, wait_s: float = 0.0) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._tried, method, path, body, wait_s)

    def _tried(self, method: str, path: str, body: bytes | None, wait_s: float) -> bytes:
        end = monotonic() + self._try_for_s
        while True:
            try:
                status, again_s, answer = self._once(method, path, body, wait_s)
            except ssl.SSLCertVerificationError as error:
                raise Refused(
                    f"the certificate of {self._address} is not to be trusted: {error.verify_message}"
                ) from error
            except (OSError, HTTPException) as error:
                why: LiverankError = Unavailable(
                    f"no gateway answers at {self._address}: {error or type(error).__name__}"
                )
                again_s = _AGAIN_S
            else:
                if status < 300:
                    return answer
                if status == _NONE and method == "GET":
                    return b""
                why = _problem(status, answer)
                if not isinstance(why, Unavailable):
                    raise why
            if monotonic() + again_s > end or self._closing.wait(again_s):
                raise why

    def _once(self, method: str, path: str, body: bytes | None, wait_s: float) -> tuple[int, float, bytes]:
        connection = self._kept() or self._connection()
        try:
            if connection.sock is not None:
                connection.sock.settimeout(_ANSWER_S + wait_s)
            connection.timeout = _ANSWER_S + wait_s
            connection.request(method, f"{self._root}{path}", body, self._headers)
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return response.status, _pause(response.headers.get("Retry-After")), answer

    def _kept(self) -> HTTPConnection | None:
        """A connection on which the next question can go; those that the gateway has closed meanwhile are let go of."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _is_closed(connection):
                return connection
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._tls is not None:
            return HTTPSConnection(self._host, self._port, timeout=_ANSWER_S, context=self._tls)
        return HTTPConnection(self._host, self._port, timeout=_ANSWER_S)


def _is_closed(connection: HTTPConnection) -> bool:
    """Whether the other side has closed a connection that rests: nothing else can have come on it."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _pause(given: str | None) -> float:
    with suppress(TypeError, ValueError):
        return max(0.0, float(given or ""))
    return 1.0


def _problem(status: int, answer: bytes) -> LiverankError:
    """What a gateway's answer says, as the error that a client over Kafka would raise."""
    try:
        said = msgspec.json.decode(answer, type=_Problem)
    except msgspec.DecodeError:
        said = _Problem()
    error = said.error or f"the gateway answers {status}"
    if status == _UNPROCESSABLE:
        return InvalidRecord(said.reason or "invalid", error)
    return Unavailable(error) if status in (_TOO_MANY, _AWAY) else Refused(error)


def _posts(records: Sequence[Any]) -> Iterator[tuple[str, list[bytes]]]:
    """Paths with the records for each, in their order, and none with too many at once."""
    for path, group in groupby(records, lambda record: PATHS[type(record)]):
        bodies: list[bytes] = []
        for body in map(encoded, group):
            if bodies and (len(bodies) == _AT_ONCE or sum(map(len, bodies)) + len(body) > _BYTES_AT_ONCE):
                yield path, bodies
                bodies = []
            bodies.append(body)
        yield path, bodies
