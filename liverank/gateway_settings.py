"""What a gateway is told: where applications find it, and how much each of them may ask. Frozen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ranker.registry.settings import HostName, Natural, Positive, Span

_Port = Annotated[int, Meta(ge=0, le=65535)]
_Rate = Annotated[float, Meta(gt=0, le=1e9)]


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway]`. It shares `[broker]`, `[topics]`, `[registry]`, `[schema]` and the limits of inputs with workers."""

    host: HostName = "127.0.0.1"  # to listen on; another than loopback asks for tokens
    port: _Port = 8080  # 0 lets the system choose
    rate: _Rate = 1000.0  # records and questions a second that one token may send
    max_body_bytes: Positive = 1 << 20  # of one request
    wait_ms: Natural = 1000  # how long a list waits for its ranking, where the request does not say
    max_wait_ms: Natural = 30_000  # the longest that a request may say
    deliver_ms: Positive = 5000  # what the brokers have not confirmed by then is 503
    users: Positive = 20_000  # whose newest rankings are remembered
    look_back_s: Span = 600.0  # how far back rankings are read at the start
    streams: Positive = 1000  # rankings followed at once
    connections: Positive = 4000
    ready_file: Path | None = None  # written once rankings are followed and requests are answered

    @property
    def tokens(self) -> str:
        """Who may ask: tokens with commas between them, from the environment alone, never stored, never logged."""
        return os.environ.get("LIVERANK_GATEWAY_TOKENS", "")
