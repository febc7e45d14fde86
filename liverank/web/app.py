"""The page as an application of ASGI: a gateway, and beside its routes what only people need.

What the page sends and follows goes by the gateway's own routes under /v1, like any application's. A person's browser
holds the token in a cookie that no script reads; it is made the gateway's header here, so there is one admission.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, MutableMapping
from importlib.resources import files
from pathlib import PurePosixPath
from random import Random
from typing import Any

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from liverank.gateway.admission import Admission
from liverank.gateway.answers import Declined, answer_of, json_answer
from liverank.gateway.app import Admitted, Gateway
from liverank.gateway.process import known_schema
from liverank.settings import Settings
from liverank.web.catalogue import KnownItems
from liverank.web.operator import ModelCommand, Operator
from ranker.contracts.schema import FeatureSchema

#: The header that carries the operator's token: no form and no other origin's page can send it.
OPERATOR_HEADER = "liverank-operator"
_COOKIE = "liverank_token"
_COOKIE_S = 30 * 24 * 3600
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: Nothing but what this process serves, no script or style within the page, and no page around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class ShownAction(Struct, frozen=True):
    """An action that people have here."""

    name: str
    positive: bool


class PageState(Struct, frozen=True, kw_only=True):
    """What the page needs to know when it begins."""

    model: str
    actions: list[ShownAction]
    items: int
    read: bool  # whether the catalogue has been read to its end
    buttons: bool  # whether an operator's token is set
    refresh_ms: int


class Token(Struct, frozen=True):
    """What a person gives to be let in."""

    token: str


class Page:
    """Answers a person's browser. Belongs to one event loop."""

    def __init__(
        self, settings: Settings, gateway: Gateway, admission: Admission, items: KnownItems, random: Random
    ) -> None:
        """
        Args:
            settings: of the page and its system.
            gateway: whose routes it has, and by which requests are admitted.
            admission: who may come in.
            items: that lists are drawn from.
            random: draws them.
        """
        self._settings, self._gateway, self._admission = settings, gateway, admission
        self._items, self._random = items, random
        self._operator = Operator(settings)
        self._schema: FeatureSchema | None = None
        folder = files("liverank.web") / "assets"
        self._assets = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}

    @property
    def app(self) -> ASGIApp:
        """The application."""
        admitted = self._gateway.admitted
        routes = [
            Route("/", self._shell),
            Route("/web/session", self._sign_in, methods=["POST"]),
            Route("/web/state", admitted("web-state", self._state)),
            Route("/web/list", admitted("web-list", self._list)),
            Route("/web/figures", admitted("web-figures", self._figures)),
            Route("/web/models", admitted("web-models", self._models), methods=["POST"]),
            Route("/web/{name}", self._asset),
        ]
        inner = self._gateway.app
        inner.router.routes[:0] = routes
        return TokenOfCookie(inner)

    def end(self) -> None:
        """Streams end, and whoever waits is answered."""
        self._operator.end()
        self._gateway.end()

    async def _shell(self, request: Request) -> Response:
        del request
        return self._file("index.html")

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._assets:
            return answer_of(Declined(404, f"the page has no {name!r}"))
        return self._file(name)

    def _file(self, name: str) -> Response:
        headers = {
            "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }  # fmt: skip
        return Response(self._assets[name], headers=headers, media_type=_KINDS[PurePosixPath(name).suffix])

    async def _sign_in(self, request: Request) -> Response:
        """Give the browser its cookie, where the token is one of ours."""
        try:
            given = msgspec.json.decode(await self._gateway.body(request), type=Token).token
        except Declined as error:
            return answer_of(error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return answer_of(Declined(422, 'give {"token": TOKEN}'))
        if self._admission.who(f"Bearer {given}", request.headers.get("host", "")) is None:
            return answer_of(
                Declined(401, "this is no token of this page; LIVERANK_WEB_TOKENS of its process has them")
            )
        response = json_answer({"signed_in": True})
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        held = base64.urlsafe_b64encode(given.encode()).decode()
        response.set_cookie(_COOKIE, held, max_age=_COOKIE_S, httponly=True, samesite="strict", secure=secure)
        return response

    async def _state(self, asked: Admitted) -> Response:
        del asked
        schema = await self._known_schema()
        actions = [ShownAction(one.name, one.positive) for one in schema.actions if not one.retired]
        web = self._settings.web
        return json_answer(
            PageState(
                model=self._settings.registry.model, actions=actions, items=len(self._items), read=self._items.read,
                buttons=self._operator.has_token, refresh_ms=web.refresh_ms,
            )
        )  # fmt: skip

    async def _known_schema(self) -> FeatureSchema:
        """The system's schema; until a version says it, or where nobody does, the one that every system begins with."""
        if self._schema is None:
            self._schema = await asyncio.to_thread(known_schema, self._settings)
        return self._schema or FeatureSchema()

    async def _list(self, asked: Admitted) -> Response:
        del asked
        features = [one.name for one in (await self._known_schema()).candidate_features]
        drawn = self._items.drawn(self._settings.web.length, self._random, features)
        return json_answer({"items": drawn, "read": self._items.read})

    async def _figures(self, asked: Admitted) -> Response:
        del asked
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        watched: AsyncIterator[bytes] = self._operator.watched()
        return StreamingResponse(watched, headers=headers, media_type="text/event-stream")

    async def _models(self, asked: Admitted) -> Response:
        if not self._operator.has_token:
            raise Declined(403, "LIVERANK_WEB_OPERATOR_TOKEN is not set where the page runs: nobody may do that here")
        if not self._operator.knows(asked.request.headers.get(OPERATOR_HEADER, "")):
            raise Declined(401, "this is not the operator's token")
        try:
            command = msgspec.json.decode(asked.body, type=ModelCommand)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Declined(422, f'{error}; give {{"what": "promote", "version": VERSION}}') from error
        return json_answer(await self._operator.command(command))


class TokenOfCookie:
    """Makes the cookie of a browser the header that a gateway asks for."""

    def __init__(self, inner: Starlette) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request; one with a header of its own keeps it."""
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], *_bearer(scope)]}
        await self._inner(scope, receive, send)


def _bearer(scope: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    headers = Headers(scope=scope)
    held = cookie_parser(headers.get("cookie", "")).get(_COOKIE)
    if held is None or "authorization" in headers:
        return []
    try:
        return [(b"authorization", b"Bearer " + base64.urlsafe_b64decode(held))]
    except ValueError:
        return []
