"""A gateway's process: what is looked at before it begins, its address, and an orderly end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from liverank.client.kafka import OverKafka
from liverank.gateway.admission import Admission, is_loopback, tokens_in
from liverank.gateway.answers import AGAIN_S, Declined, again, answer_of
from liverank.gateway.app import Gateway
from liverank.gateway_settings import GatewaySettings
from liverank.settings import Settings
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import FeatureSchema
from ranker.registry.bundle import newest_version, read_remote_manifest
from streams.access.rights import APPLICATION, check_access

log = logging.getLogger(__name__)

#: Of the five seconds in which it ends: for requests that are being answered, and for connections to brokers.
_ANSWER_S, _CLOSE_S = 2, 2.0
#: A connection that rests is closed after so long: later than proxies and clients let go of theirs, which is a minute
#: for most, so that no question is on its way to a connection that is just being closed.
_KEEP_OPEN_S = 75


class _Server(uvicorn.Server):
    """Ends when it is told to, and leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_gateway(settings: Settings) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        LiverankError: settings, an address, a broker or rights with which it cannot begin.
    """
    own = settings.gateway
    tokens = tokens_in(own.tokens)
    if not tokens and not is_loopback(own.host):
        raise LiverankError(
            f"host of [gateway] is {own.host!r}, which others reach, and LIVERANK_GATEWAY_TOKENS is not set: give "
            "tokens, or listen on 127.0.0.1"
        )
    with listening(own.host, own.port, "another gateway needs another, by LIVERANK_GATEWAY_PORT") as listener:
        check_access(settings.broker, APPLICATION)
        schema = known_schema(settings)
        asyncio.run(_answer(settings, schema, Admission(tokens, own.rate), listener))


def known_schema(settings: Settings) -> FeatureSchema | None:
    """Which actions there are: of `[schema]`, else of the registry's newest bundle; None where neither says."""
    registry = settings.registry
    if settings.worker.schema is not None:
        return settings.worker.schema
    try:
        version = newest_version(registry.address, registry.model)
        if version is not None:
            return read_remote_manifest(registry, version)[0].schema
    except LiverankError as error:
        log.warning("actions are not looked at here: %s", error)
        return None
    log.warning("actions are not looked at here: there is no [schema] in liverank.toml and no bundle in the registry")
    return None


@contextmanager
def listening(host: str, port: int, taken: str) -> Iterator[socket.socket]:
    """A process's address.

    Args:
        host: to listen on.
        port: 0 lets the system choose.
        taken: what would be right where it cannot be had.

    Raises:
        LiverankError: it cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(found[0][4][:2], family=found[0][0])
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror or error})"
        raise LiverankError(f"port {port} of {host} {why}: {taken}") from error
    with listener:
        # asyncio does this for sockets that it makes itself. Without it an answer's body, which is written after its
        # head, waits for the client's acknowledgement of the head, and that for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def way_to(settings: Settings, schema: FeatureSchema | None) -> OverKafka:
    """A client's way to the brokers, with the limits of `[gateway]`."""
    own, worker = settings.gateway, settings.worker
    return OverKafka(
        settings.broker, schema, worker.limits, users=own.users, lists=worker.lists,
        deliver_within_s=own.deliver_ms / 1000,
    )  # fmt: skip


async def _answer(
    settings: Settings, schema: FeatureSchema | None, admission: Admission, listener: socket.socket
) -> None:
    own, way = settings.gateway, way_to(settings, schema)
    gateway = Gateway(own, way, admission, version_of("liverank"))
    await serve_application(own, way, Served(gateway.app, gateway.end, "the gateway answers"), listener)


class Served(NamedTuple):
    """An application, what has it end, and what the log says of its address."""

    app: ASGIApp
    end: Callable[[], None]
    told: str


async def serve_application(settings: GatewaySettings, way: OverKafka, served: Served, listener: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C, and end in order within five seconds.

    Args:
        settings: how many connections there may be, and where it says that it is ready.
        way: to the brokers; it is closed at the end.
        served: what answers.
        listener: where.
    """

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        """What asks whether the process lives is answered however many connections there are."""
        application, most = served.app, settings.connections
        probe = scope.get("path") in ("/live", "/ready")
        if scope["type"] == "http" and not probe and len(server.server_state.connections) > most:
            error = f"{most} connections are open, and no more are allowed (`connections` of [gateway])"
            application = answer_of(Declined(503, error, {**again(AGAIN_S), "Connection": "close"}))
        await application(scope, receive, send)

    server = _Server(
        uvicorn.Config(
            limited, lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=_ANSWER_S, timeout_keep_alive=_KEEP_OPEN_S,
        )
    )  # fmt: skip

    asked = asyncio.Event()

    def end() -> None:
        asked.set()
        served.end()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    telling = asyncio.create_task(_tell_ready(way, settings, served.told, listener))
    try:
        if await _unless(asked, way.listen(now_ms() - round(settings.look_back_s * 1000))):
            await server.serve([listener])
    finally:
        telling.cancel()
        await _close(way)


async def _unless(asked: asyncio.Event, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Whether something came to its end before the process was asked to."""
    task, stop = asyncio.create_task(coroutine), asyncio.create_task(asked.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not task.done():
        _leave("the brokers have not answered yet")
    await task
    return not asked.is_set()


async def _close(way: OverKafka) -> None:
    try:
        await asyncio.wait_for(way.close(), _CLOSE_S)
    except TimeoutError:
        _leave("connections to the brokers are left open; what was accepted is theirs")


def _leave(why: str) -> None:
    """End at once: an orderly end would wait for threads, and they for brokers."""
    log.warning("%s", why)
    logging.shutdown()
    os._exit(0)


async def _tell_ready(way: OverKafka, settings: GatewaySettings, told: str, listener: socket.socket) -> None:
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    await way.listener.caught_up.wait()
    log.info("%s at http://%s:%d", told, shown, address[1])
    if settings.ready_file is not None:
        settings.ready_file.write_text("ready\n", encoding="utf-8")
