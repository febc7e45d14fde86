"""What the demo shows in a terminal: a few people's lists as they re-order, and the figures so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from liverank.demo_traffic import Tally
from liverank.demo_users import SimulatedUser
from ranker.records import RankedItem, Ranking

FEATURED = 3  # users whose lists are shown
LINES = 12
_WIDTH = 46


def screen(
    tally: Tally, users: Sequence[SimulatedUser], rankings: Mapping[str, Ranking], titles: Mapping[str, str]
) -> RenderableType:
    """The whole view at this moment."""
    panels = [
        list_panel(user, ranking, titles)
        for user in users[:FEATURED]
        if (ranking := rankings.get(user.user_id)) is not None and ranking.request_id == user.request_id
    ]
    return Group(figures(tally), Columns(panels), Text("Ctrl-C ends it", style="dim"))


def figures(tally: Tally) -> RenderableType:
    """Throughput, latency, both orders' mean reciprocal ranks and the serving model, in one line."""
    latency, mrr = tally.latency_ms(), tally.mrr()
    line = Table.grid(padding=(0, 3))
    line.add_row(
        f"[bold]{tally.events_a_second:.0f}[/bold] events/s",
        f"latency p50 [bold]{_number(latency['p50'], 1)}[/bold] ms, p99 [bold]{_number(latency['p99'], 1)}[/bold] ms",
        f"MRR shown [bold]{_number(mrr['shown'], 3)}[/bold], liverank [bold green]{_number(mrr['liverank'], 3)}[/]",
        f"{tally.clicks} clicks",
        f"model {tally.model_version or '-'}",
    )
    return line


def list_panel(user: SimulatedUser, ranking: Ranking, titles: Mapping[str, str]) -> Panel:
    """The top of one user's list: an arrow where the last event moved a film, a tick where it was clicked."""
    rows = Table.grid(padding=(0, 1))
    rows.add_column(justify="right")
    rows.add_column(width=4)
    rows.add_column(width=_WIDTH - 13, no_wrap=True, overflow="ellipsis")
    for line in ranking.items[:LINES]:
        clicked = line.item_id in user.clicked
        title = Text(("✓ " if clicked else "") + titles[line.item_id], style="dim" if clicked else "")
        rows.add_row(str(line.rank), arrow(line), title)
    favourites = ", ".join(titles[film] for film in user.taste.favourites(2))
    return Panel(
        rows,
        title=f"{user.user_id}: {len(user.clicked)} clicks on this list",
        subtitle=Text(f"unknown to the model: {favourites}", style="dim", overflow="ellipsis", no_wrap=True),
        width=_WIDTH,
    )


def arrow(line: RankedItem) -> Text:
    """How far a film has moved since the ranking before: nothing where that one was of another list."""
    moved = 0 if line.previous_rank is None else line.previous_rank - line.rank
    if moved > 0:
        return Text(f"↑{moved}", style="green")
    return Text(f"↓{-moved}", style="red") if moved < 0 else Text("")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
