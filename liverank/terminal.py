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
from rich.text import Text

from online_learning.progress import ProgressReport, Report
from ranker.contracts.errors import LiverankError

# What is printed may be a stranger's, as an id or a path: none of it is markup, or the name of an emoji.
console = Console(markup=False, emoji=False, highlight=False)
errors = Console(stderr=True, markup=False, emoji=False, highlight=False)


def say(line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, soft_wrap=True)


def say_error(problem: str) -> None:
    """Print what is wrong, on the error stream."""
    errors.print(Text.assemble(("error:", "red"), f" {problem}"), soft_wrap=True)


def report(result: dict[str, Any], path: Path | None, shown: Table | str | None = None) -> None:
    """Print a result, as a table or a text where one is given, and write it to a file where one is asked for.

    Raises:
        LiverankError: the file cannot be written.
    """
    encoded = msgspec.json.encode(result)  # NaN is null, in a terminal as in a file
    if path is not None:
        written = msgspec.json.format(encoded, indent=2) + b"\n"
        try:
            path.write_bytes(written)
        except OSError as error:
            raise LiverankError(f"{path} cannot be written: {error.strerror}; give another file with --json") from error
    if shown is None:
        console.print_json(encoded.decode())
    elif shown:
        console.print(shown, soft_wrap=isinstance(shown, str))


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
