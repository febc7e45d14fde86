"""What the page is told: where people find it, whom it asks for figures, and how much it shows. Frozen."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ranker.registry.settings import HostName, PagePort, Positive

_Length = Annotated[int, Meta(ge=2, le=100)]
_Every = Annotated[int, Meta(ge=200, le=60_000)]
#: `host:port`, or a whole address, several with commas between them.
_Pages = Annotated[
    str,
    Meta(
        pattern=r"^(\s*(https?://)?[^\s,/]+(/[^\s,]*)?\s*(,|$))*$",
        description="host:port of a metrics page, several with commas",
    ),
]


class WebSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[web]`. What may be asked of the page, and how often, are the limits of `[gateway]`."""

    host: HostName = "127.0.0.1"  # to listen on; another than loopback asks for tokens
    port: PagePort = 8090  # 0 lets the system choose, -1 has `up` and `demo` serve no page
    workers: _Pages = ""  # whose metrics are shown; the page of `[worker]` where empty
    trainer: _Pages = ""  # the same of the trainer
    refresh_ms: _Every = 2000  # how often figures are read, while somebody looks at them
    items: Positive = 20_000  # of the catalogue that lists are drawn from: the newest
    length: _Length = 12  # of a list
    ready_file: Path | None = None  # written once the page answers

    @property
    def tokens(self) -> str:
        """Who may open the page: tokens with commas between them, from the environment alone."""
        return os.environ.get("LIVERANK_WEB_TOKENS", "")

    @property
    def operator_token(self) -> str:
        """Who may have another model serve: a token, from the environment alone; without one nobody may, here."""
        return os.environ.get("LIVERANK_WEB_OPERATOR_TOKEN", "")


def why_no_page(settings: WebSettings, *, wanted: bool) -> str | None:
    """Why `up` and `demo` serve no page; None where they do.

    Args:
        settings: of the page.
        wanted: whether the command asks for one.
    """
    if not wanted:
        return "--no-web"
    if settings.port < 0:
        return "port of [web] is -1"
    missing = [module for module in ("starlette", "uvicorn") if find_spec(module) is None]
    return f"it needs {missing[0]}, which is not installed: pip install 'liverank[web]'" if missing else None
