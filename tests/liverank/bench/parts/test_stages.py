"""The budget of an input is of inputs that went the whole way."""

from __future__ import annotations

import pytest
from rich.console import Console

from liverank.bench.parts.stages import StagesOptions, bench_stages
from ranker.contracts.errors import LiverankError

STAGES = {
    "decode", "fold", "examples_queued", "graph_inputs", "graphs", "order", "record", "examples", "row_encoded",
}  # fmt: skip


def test_every_input_goes_through_every_stage() -> None:
    """Each is ranked once, each click is an example, no stage is left out and all of them are what an input takes."""
    options = StagesOptions(users=3, candidates=12, history=4, inputs=20, items=40)
    found = bench_stages(options, Console(quiet=True))
    stages = found["stages_us"]
    assert set(stages) == {*STAGES, "all"}
    assert all(figures["mean"] > 0 for figures in stages.values())
    assert stages["all"]["mean"] == pytest.approx(sum(stages[name]["mean"] for name in STAGES), abs=0.1 * len(stages))
    assert found["inputs"] == {"clicks": 18, "lists": 2}  # six clicks, then a list; two of three users come to it
    assert found["rankings"] == 20
    assert found["examples"] == 18
    assert found["machine"]["cpus"] >= 1
    assert all(found["bytes"][name] > 100 for name in ("inputs", "rankings", "examples", "rows"))


def test_rankings_that_say_less_are_shorter() -> None:
    """By the setting; nothing else changes its size."""
    full, short = (
        bench_stages(StagesOptions(3, 12, 4, 20, 40, detail), Console(quiet=True))["bytes"]
        for detail in ("full", "order")
    )
    assert full["rankings"] - short["rankings"] > 12 * len('"score":,"probabilities":{"click":}')
    assert {name: short[name] for name in ("inputs", "rows")} == {name: full[name] for name in ("inputs", "rows")}


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (StagesOptions(candidates=50, items=40), "at most items"),
        (StagesOptions(candidates=501), "at most 500"),
        (StagesOptions(inputs=0), "at least 1"),
    ],
)
def test_stages_of_sizes_that_cannot_be_are_refused(options: StagesOptions, wrong: str) -> None:
    """Before a model is made."""
    with pytest.raises(LiverankError, match=wrong):
        bench_stages(options, Console(quiet=True))
