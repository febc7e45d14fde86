"""The gateway as an application of ASGI: each request is admitted, read, answered and counted in one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from liverank.client.groups import put_together
from liverank.client.kafka import Covered, OverKafka, decoded_ranking
from liverank.client.messages import Ready
from liverank.client.newest import KnownRanking
from liverank.gateway.admission import Admission
from liverank.gateway.answers import (
    AGAIN_S,
    AcceptedRecords,
    Declined,
    GroupAnswer,
    RankedAnswer,
    again,
    answer_of,
    json_answer,
)
from liverank.gateway.metrics import GatewayMetrics
from liverank.gateway.openapi import ROUTES, docs_page, openapi
from liverank.gateway.questions import (
    RankQuestion,
    RefusedRecord,
    RefusedRecords,
    group_question,
    rank_question,
    records_in,
)
from liverank.gateway_settings import GatewaySettings
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.topics import INTERACTIONS

log = logging.getLogger(__name__)

_BODY_S = 10.0  # in which a request's body has to come
_KEEP_ALIVE_S = 15.0  # after so long without a ranking a stream says that it is there
_NOTHING = msgspec.Raw(b"null")


class Admitted(NamedTuple):
    """A request that was admitted."""

    request: Request
    who: str
    body: bytes


Handler = Callable[[Admitted], Awaitable[Response]]


class Gateway:
    """Answers requests over a client's way to Kafka. Belongs to one event loop."""

    def __init__(self, settings: GatewaySettings, way: OverKafka, admission: Admission, version: str) -> None:
        """
        Args:
            settings: how much may be asked.
            way: to the brokers.
            admission: who may ask.
            version: of this release.
        """
        self._settings, self._way, self._admission = settings, way, admission
        self._metrics = GatewayMetrics(lambda: len(way.newest))
        self._streams = 0
        self._ending = False
        self._document = openapi(version, with_tokens=not admission.is_open)
        self._page = docs_page(self._document)

    @property
    def app(self) -> Starlette:
        """The application."""
        asked = {
            "rank": self._rank, "rank-group": self._rank_group, "ranking": self._ranking, "rankings": self._rankings,
            "withdraw": self._withdraw, "metrics": self._tell_metrics,
        }  # fmt: skip
        routes = []
        for route in ROUTES:
            handler = asked.get(route.name) or self._records(route.topic)
            routes.append(Route(route.path, self.admitted(route.name, handler), methods=[route.method]))
        routes += [
            Route("/live", self._live), Route("/ready", self._ready), Route("/openapi.json", self._tell_contract),
            Route("/", self._tell_docs), Route("/docs", self._tell_docs),
        ]  # fmt: skip
        return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})

    def end(self) -> None:
        """Whoever waits for a ranking or follows them is answered now."""
        self._ending = True
        self._way.newest.end()

    def unready(self) -> str | None:
        """What is still to be done before requests should come; None where they should."""
        if self._ending:
            return "it ends"
        return None if self._way.listener.caught_up.is_set() else "rankings are being read"

    def admitted(self, name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """What answers a request by a handler once it is admitted; whatever is wrong is an answer too.

        Args:
            name: of the route, for metrics.
            handler: gives the answer.
        """

        async def answered(request: Request) -> Response:
            try:
                response = await handler(await self._admit(request))
            except RefusedRecords as error:
                for one in error.refused:
                    self._metrics.refused.labels(one.reason).inc()
                response = answer_of(error)
            except (Declined, LiverankError) as error:
                response = answer_of(error)
            except ClientDisconnect:
                response = Response(status_code=400)
            except Exception:
                log.exception("a request to %s failed", name)
                response = answer_of(Declined(500, "the gateway fails on this request; its log says how"))
            self._metrics.requests.labels(name, str(response.status_code)).inc()
            return response

        return answered

    async def _admit(self, request: Request) -> Admitted:
        who = self._admission.who(request.headers.get("authorization"), request.headers.get("host", ""))
        if who is None and self._admission.is_open:
            raise Declined(421, "this gateway has no tokens and answers to 127.0.0.1 and localhost alone")
        if who is None:
            error = "give a token of this gateway, as Authorization: Bearer TOKEN"
            raise Declined(401, error, {"WWW-Authenticate": "Bearer"})
        try:
            unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
        except UnicodeDecodeError as error:
            raise Declined(400, "the path is not UTF-8 once its %XX are decoded, as ids are") from error
        if (wait_s := self._admission.wait_s(who)) > 0:
            rate = f"{self._settings.rate:g}"
            raise Declined(429, f"more than {rate} records a second; ask again later", again(wait_s))
        self._admission.charge(who, 1)
        return Admitted(request, who, await self.body(request) if request.method == "POST" else b"")

    async def body(self, request: Request) -> bytes:
        """A request's body, within the limits of size and time.

        Raises:
            Declined: it is no JSON by its type, too large, or too slow.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which no page of another site can send without asking first
            raise Declined(415, "the body must be JSON, with Content-Type: application/json")
        if (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
            raise Declined(
                415, f"the body must be JSON as it is, and its Content-Encoding is {coding!r}: leave that out"
            )
        most, parts, size = self._settings.max_body_bytes, [], 0
        too_large = Declined(413, f"the body has more than {most} bytes; send fewer records at once")
        if (length := request.headers.get("content-length", "")).isdigit() and int(length) > most:
            raise too_large
        try:
            async with asyncio.timeout(_BODY_S):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise Declined(408, f"the body did not come within {_BODY_S:.0f} s") from None
        return b"".join(parts)

    def _records(self, topic: str) -> Handler:
        async def accept(asked: Admitted) -> Response:
            records = records_in(asked.body, topic, self._way.outgoing, now_ms())
            self._admission.charge(asked.who, max(0, len(records) - 1))
            accepted = await self._way.deliver(records)
            self._count(records)
            return json_answer(AcceptedRecords(accepted=accepted))

        return accept

    async def _withdraw(self, asked: Admitted) -> Response:
        try:
            message = self._way.outgoing.withdrawn(asked.request.path_params["item_id"])
        except InvalidRecord as error:
            refused = RefusedRecord(where="item_id", reason=error.reason, error=error.error)
            raise RefusedRecords([refused]) from error
        accepted = await self._way.deliver([message])
        self._count([message])
        return json_answer(AcceptedRecords(accepted=accepted))

    async def _rank(self, asked: Admitted) -> Response:
        question, candidates, events = rank_question(asked.body, INTERACTIONS, self._way.outgoing, now_ms())
        self._admission.charge(asked.who, len(events))
        with self._metrics.waits.time():
            found = await self._way.covered(candidates, events, self._wait_s(question))
        self._count([*events, candidates])
        self._metrics.stale.inc(found.stale)
        ranking = _NOTHING if found.ranking is None else msgspec.Raw(found.ranking.body)
        return json_answer(RankedAnswer(accepted=found.accepted, stale=found.stale, ranking=ranking))

    async def _rank_group(self, asked: Admitted) -> Response:
        question, shown, members = group_question(asked.body, INTERACTIONS, self._way.outgoing, now_ms())
        sent = [one for member in members.values() for one in (*member.events, member.candidates)]
        self._admission.charge(asked.who, len(sent) - 1)
        wait_s = self._wait_s(question)
        with self._metrics.waits.time():
            answers = await asyncio.gather(
                *(self._way.covered(member.candidates, member.events, wait_s) for member in members.values()),
                return_exceptions=True,
            )
        found: dict[str, Covered] = {}
        for name, answer in zip(members, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found[name] = answer
        self._count(sent)
        stale = [name for name, one in found.items() if one.stale]
        self._metrics.stale.inc(bool(stale))
        rankings = {name: None if one.ranking is None else decoded_ranking(one.ranking) for name, one in found.items()}
        accepted = [place for one in found.values() for place in one.accepted]
        return json_answer(GroupAnswer(accepted=accepted, group=put_together(shown, rankings, stale, question.by)))

    def _wait_s(self, question: RankQuestion) -> float:
        asked_ms = self._settings.wait_ms if question.within_ms is None else question.within_ms
        return max(0, min(asked_ms, self._settings.max_wait_ms)) / 1000

    async def _ranking(self, asked: Admitted) -> Response:
        user, request_id = asked.request.path_params["user_id"], asked.request.query_params.get("request_id")
        known = self._way.newest.newest(user, request_id)
        if known is None:
            raise Declined(
                404, "no ranking of this user, or of this list, is known here; one comes after a list or event"
            )
        return json_answer(known.body)

    async def _rankings(self, asked: Admitted) -> Response:
        if self._streams >= self._settings.streams:
            error = f"{self._settings.streams} streams are open, and no more are allowed (`streams` of [gateway])"
            raise Declined(503, error, again(AGAIN_S))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        if asked.request.method == "HEAD":  # whose answer ends with its head
            return Response(headers=headers, media_type="text/event-stream")
        told = self._told(asked.request.path_params["user_id"])
        return StreamingResponse(told, headers=headers, media_type="text/event-stream")

    async def _told(self, user_id: str) -> AsyncIterator[bytes]:
        """A user's rankings as server-sent events; whoever is slow gets the newest of each list."""
        self._streams += 1
        self._metrics.streams.inc()
        try:
            with self._way.newest.watching(user_id) as watch:
                yield b": the rankings that are known, then each as it comes\n\n"
                for known in self._way.newest.of(user_id):
                    yield _event(known)
                while not self._ending:
                    rankings: list[KnownRanking] = []
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_KEEP_ALIVE_S):
                            rankings = await watch.changed()
                    yield b"".join(map(_event, rankings)) or b": nothing new\n\n"
        finally:
            self._streams -= 1
            self._metrics.streams.dec()

    async def _tell_metrics(self, asked: Admitted) -> Response:
        del asked
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _live(self, request: Request) -> Response:
        del request
        wrong = "rankings are not followed any more" if self._way.listener.ended else None
        return PlainTextResponse(f"{wrong or 'alive'}\n", 503 if wrong else 200)

    async def _ready(self, request: Request) -> Response:
        del request
        wrong = self.unready()
        return PlainTextResponse(f"{wrong or 'ready'}\n", 503 if wrong else 200)

    async def _tell_contract(self, request: Request) -> Response:
        del request
        return json_answer(self._document)

    async def _tell_docs(self, request: Request) -> Response:
        del request
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(self._page, headers=headers)

    def _count(self, messages: list[Ready]) -> None:
        for one in messages:
            self._metrics.records.labels(one.message.topic).inc()


def _event(known: KnownRanking) -> bytes:
    """A ranking as a server-sent event, on one line whoever wrote it."""
    body = known.body
    if b"\n" in body or b"\r" in body:
        body = msgspec.json.format(body, indent=-1)
    return b"event: ranking\nid: %d.%d\ndata: %b\n\n" % (known.epoch, known.revision, body)


async def _unknown(request: Request, error: Exception) -> Response:
    """A path that is none, or another method than it has."""
    del request
    assert isinstance(error, HTTPException)
    return answer_of(Declined(error.status_code, f"{error.detail}; /openapi.json says what there is", error.headers))
