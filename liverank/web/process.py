"""The page's process: what is looked at before it begins, and what runs beside its answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from importlib.metadata import version as version_of
from random import SystemRandom

from msgspec.structs import replace

from liverank.gateway.admission import Admission, is_loopback, tokens_in
from liverank.gateway.app import Gateway
from liverank.gateway.process import Served, known_schema, listening, serve_application, way_to
from liverank.settings import Settings
from liverank.web.app import Page
from liverank.web.catalogue import KnownItems, follow_items
from ranker.contracts.errors import LiverankError
from streams.access.rights import WEB, check_access

_VARIABLE = "LIVERANK_WEB_TOKENS"


def run_web(settings: Settings) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Raises:
        LiverankError: settings, an address, a broker or rights with which it cannot begin.
    """
    own = settings.web
    tokens = tokens_in(own.tokens, _VARIABLE)
    if not tokens and not is_loopback(own.host):
        raise LiverankError(
            f"host of [web] is {own.host!r}, which others reach, and {_VARIABLE} is not set: give tokens, or listen on "
            "127.0.0.1"
        )
    if own.port < 0:
        raise LiverankError("port of [web] is -1, which has `up` and `demo` serve no page; give another, or 0 for any")
    with listening(own.host, own.port, "another page needs another, by LIVERANK_WEB_PORT; 0 is any free one") as where:
        check_access(settings.broker, WEB)
        asyncio.run(_serve(settings, Admission(tokens, settings.gateway.rate), where))


async def _serve(settings: Settings, admission: Admission, listener: socket.socket) -> None:
    limits = replace(settings.gateway, ready_file=settings.web.ready_file)
    way = way_to(settings, known_schema(settings))
    gateway = Gateway(limits, way, admission, version_of("liverank"))
    items = KnownItems(settings.web.items)
    page = Page(settings, gateway, admission, items, SystemRandom())
    following = asyncio.create_task(follow_items(settings.broker, items))
    try:
        await serve_application(limits, way, Served(page.app, page.end, "the page is"), listener)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
