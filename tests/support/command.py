"""The command line in this process, as a person sees it: what it prints and how it ends."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple
from unittest.mock import patch

import typer

from liverank.cli.main import app, main


def _walked(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walked(command, (*names, name))
        else:
            yield (*names, name), command


#: Every command with its options, by what a person types.
COMMANDS = dict(_walked(typer.main.get_command(app)))


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def problem(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def run_command(*arguments: object) -> Ran:
    """Run `liverank` with these arguments; an exception that nobody turned into a line goes through."""
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["liverank", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ran(code, out.getvalue(), err.getvalue())
