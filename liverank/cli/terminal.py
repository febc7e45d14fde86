"""What the commands share: options, settings, and how a report is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from liverank.settings import Settings, load_settings

console = Console()
errors = Console(stderr=True)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="A liverank.toml; else ./liverank.toml.", show_default=False),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the report to this file.", show_default=False)]
Registry = Annotated[
    str | None,
    typer.Option("--registry", help="A folder or fsspec address; else LIVERANK_REGISTRY.", show_default=False),
]


def settings_from(config: Path | None, registry: str | None = None) -> Settings:
    """The settings of a file, by default ./liverank.toml where there is one, and of the environment."""
    default = Path("liverank.toml")
    settings = load_settings(config if config is not None else default if default.exists() else None)
    return settings if registry is None else msgspec.structs.replace(settings, registry=registry)


def report(result: dict[str, Any], path: Path | None, shown: Table | None = None) -> None:
    """Print a result, as a table where one is given, and write it to a file where one is asked for."""
    if shown is not None:
        console.print(shown)
    else:
        console.print_json(data=result)
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
