"""`liverank data`: a folder of files as a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from liverank.cli.data import GivenLog, check_folder_settings, open_log
from liverank.cli.options import Json
from liverank.terminal import progress_bars, report, say
from online_learning.folder.description import CONFIG_FILE
from ranker.contracts.clock import now_ms

# Polars is imported inside the commands that need it.
# ruff: noqa: PLC0415

data_app = typer.Typer(help="Look at a folder of files, and make one of a public data set.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


@data_app.command(
    "convert", epilog="Example:  liverank data convert trivago --data trivago.parquet --out trivago-folder"
)
def convert_command(
    dataset: Annotated[str, typer.Argument(help="trivago, yoochoose, movielens-100k, movielens-1m, or metarank.")],
    data: Annotated[Path, typer.Option("--data", help="The data set's, or Metarank's, file or folder.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    force: Force = False,
    json: Json = None,
) -> None:
    """Write a public data set, or a log of Metarank's events, as a folder of Parquet files with its liverank.toml."""
    from online_learning.folder.convert import convert
    from online_learning.folder.metarank import metarank

    log = GivenLog(metarank(data), data) if dataset == "metarank" else open_log(dataset, data)
    made = msgspec.to_builtins(convert(log.data, log.path, out, force))
    report(made | ({"notes": list(log.data.notes)} if log.data.notes else {}), json)


@data_app.command("check", epilog="Example:  liverank data check DIR --json check.json")
def check_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; docs/data.md says what it holds.")],
    shown: Annotated[int, typer.Option(help="Rejected lines of each kind that are shown.", min=0)] = 3,
    json: Json = None,
) -> None:
    """Look at every line of a folder: counts, shares, what is left out and why, and what can be learned from it."""
    from online_learning.folder.check import check_log, report_of
    from online_learning.folder.log import read_log

    check_folder_settings(folder)
    with progress_bars() as show:
        facts = check_log(read_log(folder), now_ms(), shown, show)
    table = Table("", "", title=str(folder), show_header=False)
    for name, value in report_of(facts).items():
        if name not in ("rejected_first", "verdict", "notes") and value not in (None, {}):
            table.add_row(name.replace("_", " "), str(value))
    report(report_of(facts), json, table)
    lines = [f"{line.file}:{line.line}: {line.field} {line.problem}" for line in facts.rejected_first]
    verdict = facts.verdict
    for sentence in (*lines, *facts.notes, *verdict.doubts, *verdict.can, *verdict.cannot):
        say(sentence)
    if verdict.cannot:
        raise typer.Exit(1)


def init_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it is made where there is none.")],
    force: Force = False,
    json: Json = None,
) -> None:
    """Look at a folder's files and write a commented liverank.toml: names of columns, actions, features."""
    from online_learning.folder.guess import write_guess

    guess = write_guess(folder, force)
    path, unsure = folder / CONFIG_FILE, guess.unsure or ("nothing",)
    lines = [guess.text, f"written to {path}; not sure of:", *(f"* {sentence}" for sentence in unsure)]
    report({"file": str(path), "text": guess.text, "unsure": list(guess.unsure)}, json, "\n".join(lines))
