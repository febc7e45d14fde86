"""What a person sees: rates out of counters, and one calm screen."""

from __future__ import annotations

import pytest
from rich.console import Console

from liverank.up.view import PartLine, TrafficMeter, WorkerTraffic, screen_of


def page(events: int, rankings: int) -> str:
    """A worker's page, as Prometheus reads it."""
    return (
        "# TYPE liverank_events counter\n"
        f'liverank_events_total{{topic="clicks"}} {events}\nliverank_events_total{{topic="views"}} 0\n'
        f"# TYPE liverank_rankings counter\nliverank_rankings_total {rankings}\n"
        '# TYPE liverank_lag gauge\nliverank_lag{partition="0",topic="clicks"} 3\n'
        'liverank_lag{partition="1",topic="clicks"} 4\n'
        '# TYPE liverank_model_info gauge\nliverank_model_info{version="v7"} 1\n'
        "# TYPE liverank_model_swaps counter\nliverank_model_swaps_total 2\n"
    )


def test_rates_are_over_the_last_ten_seconds() -> None:
    """A burst long ago is no rate of now, and a worker that was started again does not run backwards."""
    meter = TrafficMeter()
    assert meter.read(page(100, 50), 0.0).events_a_second == 0
    found = meter.read(page(200, 100), 10.0)
    assert (found.events_a_second, found.rankings_a_second) == pytest.approx((10, 5))
    assert (found.lag, found.version, found.swaps) == (7, "v7", 2)
    for second in range(11, 40):
        found = meter.read(page(200, 100), float(second))
    assert found.events_a_second == 0
    assert meter.read(page(0, 0), 41.0).events_a_second == 0


def test_the_screen_says_what_there_is() -> None:
    """Each part's state, the traffic_lines, the newest errors alone."""
    console = Console(width=100, record=True, file=None, force_terminal=False)
    parts = [PartLine("broker", "ready", 0, ""), PartLine("worker", "again in 4 s", 2, "status 1: no broker")]
    errors = [f"error {number}" for number in range(9)]
    with console.capture() as captured:
        console.print(screen_of("127.0.0.1:9092", parts, WorkerTraffic(lag=7, version="v7"), 12, errors))
    text = captured.get()
    for said in ("again in 4 s", "status 1: no broker", "7 waiting", "model v7", "12 examples", "error 8"):
        assert said in text
    assert "error 3" not in text
