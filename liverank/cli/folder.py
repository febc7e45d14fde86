"""`liverank data`: a folder of files as a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from liverank.cli.data import open_log
from liverank.cli.options import Json
from liverank.terminal import report

# Polars is imported inside the commands that need it.
# ruff: noqa: PLC0415

data_app = typer.Typer(help="Look at a folder of files, and make one of a public data set.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


@data_app.command(
    "convert", epilog="Example:  liverank data convert trivago --data trivago.parquet --out trivago-folder"
)
def convert_command(
    dataset: Annotated[str, typer.Argument(help="trivago, yoochoose, movielens-100k or movielens-1m.")],
    data: Annotated[Path, typer.Option("--data", help="The data set's file or folder.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    force: Force = False,
    json: Json = None,
) -> None:
    """Write a public data set as a folder of Parquet files with its liverank.toml."""
    from online_learning.folder.convert import convert

    log = open_log(dataset, data)
    report(msgspec.to_builtins(convert(log.data, log.path, out, force)), json)
