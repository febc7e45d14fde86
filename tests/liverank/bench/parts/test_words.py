"""`liverank bench words` on films that are made up: what it asks, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from liverank.bench.parts.words import WordsOptions, bench_words
from ranker.contracts.errors import LiverankError

FILMS = [
    ("Battle of the Star Fleet (1980)", "Sci-Fi|War"), ("The Duck Who Could Not Swim (1991)", "Children's|Comedy"),
    ("Letters from a Lighthouse (1975)", "Drama|Romance"), ("The Long Trial (1988)", "Crime|Thriller"),
    ("Harvest (1969)", "Drama"), ("Riders of the Canyon (1956)", "Western"), ("The Haunted Orchard (1999)", "Horror"),
    ("Songs of the Harbour (1964)", "Musical"),
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten people, who have each watched some."""
    lines = [f"{number}\t{title}\t{genres}" for number, (title, genres) in enumerate(FILMS, start=1)]
    (tmp_path / "ml-1m-items.tsv").write_text("\n".join(lines) + "\n", encoding="latin-1")
    rows = [(f"p{person}", at, str(1 + (person + at) % len(FILMS))) for person in range(10) for at in range(3)]
    frame = pl.DataFrame(rows, schema=["user_id", "position", "item_id"], orient="row")
    frame.write_parquet(tmp_path / "ml-1m.parquet")
    return tmp_path / "ml-1m.parquet"


def test_words_bring_the_film_up(data: Path) -> None:
    """Of made-up films the starter finds the one whose genre or title is typed, better than with nothing typed; each
    figure has its interval, each turn its difference, and what is said is tried."""
    options = WordsOptions(data=data, users=10, candidates=6, say=("a war in space", "but funny, with animals"))
    found = bench_words(options, Console(quiet=True))
    starter = found["models"]["starter"]
    assert starter["no words"]["n"] == 10
    (title,) = starter["a word of the title"]["turns"]
    assert title["mrr"]["value"] > starter["a word of the title"]["without"]["value"]
    assert title["minus_without"]["low"] <= title["minus_without"]["value"] <= title["minus_without"]["high"]
    assert len(starter["one genre, then another"]["turns"]) == 2
    silent, first, second = found["say"]
    assert (silent["typed"], first["typed"], second["typed"]) == (None, *options.say)
    assert first["first"][0] == FILMS[0][0]
    assert second["first"][0] == FILMS[1][0]


def test_more_people_than_there_are(data: Path) -> None:
    """An error that says how many there are."""
    with pytest.raises(LiverankError, match="10 people are there"):
        bench_words(WordsOptions(data=data, users=8, learn=3), Console(quiet=True))
