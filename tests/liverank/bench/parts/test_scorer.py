"""What is measured of the scorer is what it says: users extended, and users made anew."""

from __future__ import annotations

import pytest
from rich.console import Console

from liverank.bench.parts.scorer import ScorerOptions, bench_scorer
from ranker.contracts.errors import LiverankError


def test_every_combination_has_its_line() -> None:
    """With ratios of the figures beside them; a long history costs more to read anew, and a longer one more again."""
    found = bench_scorer(ScorerOptions((8, 400), (5,), (1, 3), 40), Console(quiet=True))["scorer"]
    assert [(line["history"], line["candidates"], line["batch"]) for line in found] == [
        (8, 5, 1), (8, 5, 3), (400, 5, 1), (400, 5, 3),
    ]  # fmt: skip
    for line in found:
        assert line["encode_ratio"] == pytest.approx(line["encode_anew_us"] / line["encode_extended_us"], abs=0.01)
        assert line["whole_ratio"] == pytest.approx(line["whole_anew_us"] / line["whole_extended_us"], abs=0.01)
    assert found[3]["encode_anew_us"] > found[1]["encode_anew_us"]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (ScorerOptions(history=()), "at least one number"),
        (ScorerOptions(history=(1,)), "at least 2"),
        (ScorerOptions(candidates=(50,), items=40), "at most items"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: ScorerOptions, wrong: str) -> None:
    """Before a model is made."""
    with pytest.raises(LiverankError, match=wrong):
        bench_scorer(options, Console(quiet=True))
