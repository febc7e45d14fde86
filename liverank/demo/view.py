"""What the demo shows in a terminal: a few people's lists as they re-order, what the trainer sends, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from rich.console import ConsoleDimensions, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from liverank.demo.learning import Learning, Pages
from liverank.demo.traffic import Tally
from liverank.simulate.users import SimulatedUser
from ranker.contracts.records import ModelUpdate, RankedItem, Ranking
from ranker.rollout.stages import PROMOTED

FEATURED = 3  # users whose lists are shown, where there is room
_LINES = 12  # of a list
_LEAST_LINES = 3
_UPDATES = 4  # announcements that are shown
_NARROW, _WIDE = 40, 46  # columns of a list
_AROUND = 2  # rows or columns of a frame


class DemoView(Struct, frozen=True):
    """Everything that the view is made of."""

    tally: Tally
    learning: Learning
    pages: Pages
    users: Sequence[SimulatedUser]
    newest: Callable[[str, str], Ranking | None]  # ranking of a user's list, by its request
    titles: Mapping[str, str]


def screen(shown: DemoView, size: ConsoleDimensions, now: int) -> RenderableType:
    """The whole view at this moment, as large as the terminal and no larger.

    Args:
        shown: what there is to show.
        size: of the terminal.
        now: milliseconds since the epoch.
    """
    around = _figures(shown.tally), _learning(shown, now), _updates(shown.learning, now), Text("Ctrl-C ends it", "dim")
    rows = sum(len(part.split()) for part in around) + 1  # what Live needs
    lines = max(_LEAST_LINES, min(_LINES, size.height - rows - _AROUND))
    *above, updates, end = around
    return Group(*above, _lists(shown, size.width, lines), updates, end)


def _figures(tally: Tally) -> Text:
    """Throughput, latency, both orders' mean reciprocal ranks."""
    latency, mrr = tally.latency_ms(), tally.mrr()
    return _lines(
        f"[bold]{tally.events_a_second:.0f}[/] events/s, latency p50 [bold]{_number(latency['p50'], 1)}[/] ms, "
        f"p99 [bold]{_number(latency['p99'], 1)}[/] ms",
        f"{tally.clicks} clicks, MRR shown [bold]{_number(mrr['shown'], 3)}[/], "
        f"liverank [bold green]{_number(mrr['liverank'], 3)}[/]",
    )


def _learning(shown: DemoView, now: int) -> Text:
    """Which version serves, how often that has changed, how new the rows are, and whether learning helps."""
    learning, pages = shown.learning, shown.pages
    mrr = pages.progressive() or {}
    return _lines(
        f"model [bold cyan]{learning.serving or '-'}[/] since {_age(learning.since, now)}, "
        f"swaps [bold]{learning.swaps}[/], refused {pages.refused}",
        f"last delta {_age(learning.delta, now)} ago, "
        f"clicks learned from after p50 [bold]{_number(learning.fresh().delta_s.p50, 2)}[/] s",
        "before learning from a click, MRR "
        + ", ".join(f"{name} {_number(mrr.get(name), 3)}" for name in ("trainer", "serving", "first")),
    )


def _updates(learning: Learning, now: int) -> Text:
    """The newest records of `model-updates`; a dot marks the version that serves."""
    newest = list(learning.updates)[:_UPDATES]
    lines = [_update_line(update, update.version == learning.serving, now) for update in newest]
    return _cut(Text("\n").join(lines or [Text("no version was announced yet", "dim")]))


def _update_line(update: ModelUpdate, serves: bool, now: int) -> Text:
    line = Text("● " if serves else "  ", "cyan")
    line.append(f"{(now - update.ts) // 1000:>4} s ", "dim")
    line.append(update.version.partition("T")[2], "cyan" if serves else "")  # the day is everywhere the same
    line.append(f" {update.stage}", "green" if update.stage == PROMOTED else "yellow")
    return line.append(f" {update.reason or ''}", "dim")


def _lists(shown: DemoView, width: int, lines: int) -> Table:
    """As many people's lists side by side as there is room for."""
    beside = max(1, min(FEATURED, width // _NARROW))
    grid = Table.grid()
    grid.add_row(
        *(
            list_panel(user, ranking, shown.titles, min(_WIDE, width // beside), lines)
            for user in shown.users[:beside]
            if (ranking := shown.newest(user.user_id, user.request_id)) is not None
        )
    )
    return grid


def list_panel(user: SimulatedUser, ranking: Ranking, titles: Mapping[str, str], width: int, lines: int) -> Panel:
    """The top of one user's list: an arrow where the last event moved a film, a tick where it was clicked."""
    rows = Table.grid(padding=(0, 1))
    rows.add_column(justify="right")
    rows.add_column(width=3)
    rows.add_column(width=width - 12, no_wrap=True, overflow="ellipsis")
    for line in ranking.items[:lines]:
        clicked = line.item_id in user.clicked
        title = Text(("✓ " if clicked else "") + titles[line.item_id], style="dim" if clicked else "")
        rows.add_row(str(line.rank), arrow(line), title)
    favourites = ", ".join(titles[film] for film in user.taste.favourites(2))
    return Panel(
        rows,
        title=f"{user.user_id}: {len(user.clicked)} clicks on this list",
        subtitle=Text(f"unknown to the model: {favourites}", style="dim", overflow="ellipsis", no_wrap=True),
        width=width,
        height=lines + _AROUND,
    )


def arrow(line: RankedItem) -> Text:
    """How far a film has moved since the ranking before: nothing where that one was of another list."""
    moved = 0 if line.previous_rank is None else line.previous_rank - line.rank
    if moved > 0:
        return Text(f"↑{moved}", style="green")
    return Text(f"↓{-moved}", style="red") if moved < 0 else Text("")


def _lines(*lines: str) -> Text:
    return _cut(Text.from_markup("\n".join(lines)))


def _cut(text: Text) -> Text:
    """What is too long for a line ends in dots, so that the number of rows is known."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _age(then: int | None, now: int) -> str:
    return "-" if then is None else f"{max(0, now - then) / 1000:.1f} s"
