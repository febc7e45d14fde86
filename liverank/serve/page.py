"""The page of a process: `/metrics` for Prometheus, `/ready` and `/live` for whoever starts and stops it."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from ranker.contracts.errors import LiverankError

log = logging.getLogger(__name__)

#: What is wrong just now, or None where all is well. Asked on a thread of the page's.
Ask = Callable[[], str | None]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a question, so that one that waits for its answer holds up no other."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing where who asked has gone away, as probes of ports do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: probes come every few seconds."""


def open_page(host: str, port: int, taken: str) -> Callable[[CollectorRegistry, Ask, Ask], None]:
    """What opens the page of a process at an address, once the process has something to say.

    Args:
        host: to listen on.
        port: 0 lets the system choose, -1 opens nothing.
        taken: what would be right where the port is taken.
    """

    def opened(registry: CollectorRegistry, unready: Ask, dead: Ask) -> None:
        """Serve `/metrics`, `/ready` and `/live`; the last two answer 200, or 503 with what is wrong.

        Raises:
            LiverankError: the address cannot be listened on.
        """
        if port < 0:
            return
        try:
            kind = _ServerOfIPv6 if ":" in host else _Server
            server = make_server(host, port, routed(registry, unready, dead), kind, _Handler)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
            raise LiverankError(f"port {port} of {host} {why}: {taken}") from error
        threading.Thread(target=server.serve_forever, name="page", daemon=True).start()
        log.info("metrics at http://%s:%d/metrics", host, server.server_port)

    return opened


def routed(registry: CollectorRegistry, unready: Ask, dead: Ask) -> Any:
    """The page as a WSGI application."""
    metrics, answers = make_wsgi_app(registry), {"/ready": ("ready", unready), "/live": ("alive", dead)}

    def page(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = answers.get(environ["PATH_INFO"])
        if asked is None:
            served: Iterable[bytes] = metrics(environ, start)
            return served
        wrong = asked[1]()
        start("200 OK" if wrong is None else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or asked[0]}\n".encode()]

    return page
