"""What a person sees of an installation: each part's state, what goes through, and the newest errors."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from liverank.measure.figures import Figures

ERRORS_SHOWN = 5


class PartLine(Struct, frozen=True):
    """A part as it is shown."""

    name: str
    state: str
    restarts: int
    note: str


def screen_of(
    address: str, parts: Sequence[PartLine], figures: Figures, learned: int, errors: Sequence[str]
) -> RenderableType:
    """The whole view.

    Args:
        address: of the broker.
        parts: as they are.
        figures: of worker and trainer.
        learned: examples that the trainer has learned from since it started.
        errors: the newest ones, oldest first.
    """
    table = Table("part", "state", "restarts", "", box=None, padding=(0, 2, 0, 0))
    for part in parts:
        style = "green" if part.state == "ready" else "yellow"
        table.add_row(part.name, Text(part.state, style), str(part.restarts) if part.restarts else "", part.note)
    lines = [Text(line) for line in traffic_lines(figures, learned)]
    newest = [Text(line, "red", overflow="ellipsis", no_wrap=True) for line in errors[-ERRORS_SHOWN:]]
    hint = Text(f"produce to and consume from {address}; Ctrl-C ends all of it in order", "dim")
    return Group(table, *lines, *newest, hint)


def traffic_lines(figures: Figures, learned: int) -> list[str]:
    """What goes through, in two lines."""
    waiting = sum(one.waiting for one in figures.lag)
    return [
        f"{figures.events_a_second:.1f} events/s, {figures.rankings_a_second:.1f} rankings/s, "
        f"{waiting} waiting, {figures.dead_letters} dead letters",
        f"model {', '.join(figures.versions) or 'none yet'}, {figures.swaps} swaps, {learned} examples learned from",
    ]
