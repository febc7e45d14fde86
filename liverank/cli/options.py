"""What the commands share: options, and the settings that they are given."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from liverank.settings import Settings, changed, load_settings
from liverank.terminal import errors
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _writable(path: Path | None) -> Path | None:
    """A file that can be written, found out before there is anything to write."""
    if path is not None:
        beside = path if path.exists() else path.parent
        if path.is_dir() or not path.parent.is_dir() or not os.access(beside, os.W_OK):
            raise typer.BadParameter(f"{path} cannot be written; give a file in a folder that is there")
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", help="A liverank.toml; else ./liverank.toml.", show_default=False),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the report to this file.", show_default=False, callback=_writable),
]
Registry = Annotated[
    str | None,
    typer.Option("--registry", help="A folder or fsspec address; else LIVERANK_REGISTRY.", show_default=False),
]
#: A version; each command that reads one takes the same by default.
Version = Annotated[
    str | None,
    typer.Option("--version", help="A version; else the one that serves, else the newest.", show_default=False),
]
Since = Annotated[
    str | None, typer.Option("--since", help="Only what is from this time (UTC) on, or 7d: the last 7 days.")
]
Until = Annotated[str | None, typer.Option("--until", help="Only what is before this time (UTC).")]


def config_file(config: Path | None) -> Path | None:
    """The settings file: the one that is named, else ./liverank.toml where there is one."""
    default = Path("liverank.toml")
    return config if config is not None else default if default.exists() else None


def settings_from(config: Path | None, registry: str | None = None) -> Settings:
    """The settings of `config_file` and of the environment."""
    settings = load_settings(config_file(config))
    return settings if registry is None else changed(settings, registry=registry)


def version_from(settings: Settings, version: str | None) -> str:
    """The version that a command reads: the one that is named, else the one that serves, else the newest.

    Raises:
        LiverankError: the registry has none.
    """
    from liverank.operate.models import version_in_use  # noqa: PLC0415  # Kafka and ONNX Runtime

    chosen = version_in_use(settings, version)
    if chosen.why is not None:
        errors.print(f"{chosen.why}; version {chosen.version} is taken, the newest", soft_wrap=True)
    return chosen.version


def log_to_stderr() -> None:
    """What a process that serves tells: a line each, with its time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def hidden(name: str) -> Any:
    """An option by its earlier name, which goes on to work and is told to nobody."""
    return typer.Option(name, hidden=True)


def moment_of(text: str | None) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 time, UTC where it names no zone; `7d` is so long before now.

    Raises:
        LiverankError: it is neither.
    """
    if text is None:
        return None
    if (ago := _span(text)) is not None:
        return now_ms() - ago
    try:
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise LiverankError(f"{text!r} is no time; write it as 2018-11-08T00:00, in UTC, or as 7d or 24h") from error


def duration_of(text: str) -> int:
    """Milliseconds of `500ms`, `10s`, `5m`, `24h` or `7d`.

    Raises:
        LiverankError: it is none, or none above 0.
    """
    span = _span(text)
    if not span:
        raise LiverankError(f"{text!r} is no duration; write it as 500ms, 10s, 5m, 24h or 7d")
    return span


def whole_numbers(text: str) -> tuple[int, ...]:
    """The whole numbers above 0 of `1000,100000`; none of an empty text.

    Raises:
        LiverankError: something else stands there.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise LiverankError(f"{text!r} is no list of whole numbers above 0; write it as 1000,100000")
    return tuple(map(int, parts))


def _span(text: str) -> int | None:
    number = text.rstrip("dhms")
    unit = text[len(number) :]
    if unit not in _UNITS or not number.isascii() or not number.replace(".", "", 1).isdigit():
        return None
    return round(float(number) * _UNITS[unit])
