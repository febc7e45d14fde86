"""What is shown in a terminal: reports, and the progress of long work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from online_learning.progress import ProgressReport, Report

console = Console()
errors = Console(stderr=True)


def report(result: dict[str, Any], path: Path | None, shown: Table | None = None) -> None:
    """Print a result, as a table where one is given, and write it to a file where one is asked for."""
    if shown is not None:
        console.print(shown)
    else:
        console.print_json(data=result)
    if path is not None:
        write_json(result, path)


def write_json(result: dict[str, Any], path: Path) -> None:
    """Write a result to a file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


@contextmanager
def progress_bars(
    shown_on: Console = errors, titles: Mapping[str, str] | None = None, *, quiet: bool = False
) -> Iterator[Report]:
    """Progress bars, one a phase of the work; gives a function that takes `online_learning.progress.ProgressReport`.

    Args:
        shown_on: the terminal; nothing is drawn where it is none.
        titles: what to call a phase, where not by its own name; the bars then stay when all is done.
        quiet: draw only when something is reported, so that no thread draws while something is measured.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns,
        TextColumn("{task.fields[note]}"),
        console=shown_on,
        transient=titles is None,
        auto_refresh=not quiet,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def show(progress: ProgressReport) -> None:
            if progress.phase not in tasks:
                _complete(bars)
                name = (titles or {}).get(progress.phase, progress.phase)
                tasks[progress.phase] = bars.add_task(name, total=None, note="")
            bars.update(
                tasks[progress.phase],
                completed=progress.done,
                total=progress.total or None,
                note=progress.note,
                refresh=quiet,
            )

        yield show
        _complete(bars)


def _complete(bars: Progress) -> None:
    """What was begun is done; of some phases nobody knew before how long they would be."""
    for task in bars.tasks:
        done = max(task.completed, 1)
        bars.update(task.id, completed=done, total=done)
