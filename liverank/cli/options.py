"""What the commands share: options, and the settings that they are given."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from liverank.settings import Settings, changed, load_settings

Config = Annotated[
    Path | None,
    typer.Option("--config", help="A liverank.toml; else ./liverank.toml.", show_default=False),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the report to this file.", show_default=False)]
Registry = Annotated[
    str | None,
    typer.Option("--registry", help="A folder or fsspec address; else LIVERANK_REGISTRY.", show_default=False),
]


def config_file(config: Path | None) -> Path | None:
    """The settings file: the one that is named, else ./liverank.toml where there is one."""
    default = Path("liverank.toml")
    return config if config is not None else default if default.exists() else None


def settings_from(config: Path | None, registry: str | None = None) -> Settings:
    """The settings of `config_file` and of the environment."""
    settings = load_settings(config_file(config))
    return settings if registry is None else changed(settings, registry=registry)


def log_to_stderr() -> None:
    """What a process that serves tells: a line each, with its time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
