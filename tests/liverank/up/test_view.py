"""What a person sees: one calm screen."""

from __future__ import annotations

from rich.console import Console

from liverank.measure.figures import Figures, PartitionLag
from liverank.up.view import PartLine, screen_of


def test_the_screen_says_what_there_is() -> None:
    """Each part's state, the traffic_lines, the newest errors alone."""
    console = Console(width=100, record=True, file=None, force_terminal=False)
    parts = [PartLine("broker", "ready", 0, ""), PartLine("worker", "again in 4 s", 2, "status 1: no broker")]
    errors = [f"error {number}" for number in range(9)]
    figures = Figures(
        at=0, workers=1, missing=[], lag=[PartitionLag("clicks", 0, 3), PartitionLag("clicks", 1, 4)], versions=["v7"]
    )
    with console.capture() as captured:
        console.print(screen_of("127.0.0.1:9092", parts, figures, 12, errors))
    text = captured.get()
    for said in ("again in 4 s", "status 1: no broker", "7 waiting", "model v7", "12 examples", "error 8"):
        assert said in text
    assert "error 3" not in text
