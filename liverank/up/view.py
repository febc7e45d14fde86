"""What a person sees of an installation: each part's state, what goes through, and the newest errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from liverank.measure.pages import samples

ERRORS_SHOWN = 5
_RATE_OVER_S = 10.0


class PartLine(Struct, frozen=True):
    """A part as it is shown."""

    name: str
    state: str
    restarts: int
    note: str


class WorkerTraffic(Struct, frozen=True):
    """What goes through the worker. Rates are a second, over the last ten."""

    events_a_second: float = 0.0
    rankings_a_second: float = 0.0
    lag: int = 0  # inputs that are not handled yet
    dead_letters: int = 0
    version: str = ""
    swaps: int = 0


class TrafficMeter:
    """Makes rates out of the counters on the worker's page."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque()

    def read(self, page: str, now: float) -> WorkerTraffic:
        """Take a page in.

        Args:
            page: as the worker shows it to Prometheus.
            now: by a monotonic clock, seconds.
        """
        events, rankings = _sum(page, "liverank_events_total"), _sum(page, "liverank_rankings_total")
        if self._seen and events < self._seen[-1][1]:  # the worker was started again
            self._seen.clear()
        self._seen.append((now, events, rankings))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        began, first_events, first_rankings = self._seen[0]
        span = max(now - began, 1e-9)
        versions = [labels["version"] for labels, value in samples(page, "liverank_model_info") if value]
        return WorkerTraffic(
            events_a_second=(events - first_events) / span if len(self._seen) > 1 else 0.0,
            rankings_a_second=(rankings - first_rankings) / span if len(self._seen) > 1 else 0.0,
            lag=round(_sum(page, "liverank_lag")),
            dead_letters=round(_sum(page, "liverank_dead_letters_total")),
            version=versions[0] if versions else "",
            swaps=round(_sum(page, "liverank_model_swaps_total")),
        )


def screen_of(
    address: str, parts: Sequence[PartLine], traffic: WorkerTraffic, learned: int, errors: Sequence[str]
) -> RenderableType:
    """The whole view.

    Args:
        address: of the broker.
        parts: as they are.
        traffic: of the worker.
        learned: examples that the trainer has learned from since it started.
        errors: the newest ones, oldest first.
    """
    table = Table("part", "state", "restarts", "", box=None, padding=(0, 2, 0, 0))
    for part in parts:
        style = "green" if part.state == "ready" else "yellow"
        table.add_row(part.name, Text(part.state, style), str(part.restarts) if part.restarts else "", part.note)
    lines = [Text(line) for line in traffic_lines(traffic, learned)]
    newest = [Text(line, "red", overflow="ellipsis", no_wrap=True) for line in errors[-ERRORS_SHOWN:]]
    hint = Text(f"produce to and consume from {address}; Ctrl-C ends all of it in order", "dim")
    return Group(table, *lines, *newest, hint)


def traffic_lines(traffic: WorkerTraffic, learned: int) -> list[str]:
    """What goes through, in two lines."""
    return [
        f"{traffic.events_a_second:.1f} events/s, {traffic.rankings_a_second:.1f} rankings/s, "
        f"{traffic.lag} waiting, {traffic.dead_letters} dead letters",
        f"model {traffic.version or 'none yet'}, {traffic.swaps} swaps, {learned} examples learned from",
    ]


def _sum(page: str, name: str) -> float:
    return sum(value for _, value in samples(page, name))
