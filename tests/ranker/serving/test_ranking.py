"""The bytes of a ranking are those of its record, item by item."""

from __future__ import annotations

from typing import get_args

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.contracts.documents import json_schemas
from ranker.contracts.records import Cause, RankedItem, Ranking
from ranker.contracts.topics import RANKINGS
from ranker.serving.options import RankingDetail
from ranker.serving.ranking import Ranked, encode_ranking
from ranker.state.row import CurrentList, UserRow

RANKING = jsonschema.Draft202012Validator(json_schemas()[RANKINGS])
CAUSE = Cause(kind="click", topic="clicks", partition=2, offset=41, ts=1_763_700_000_000, event_id='e"1')
LONG = "x" * 4096
IDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.text('",\\[]{}:/\n', min_size=1, max_size=6),
    st.sampled_from(['","', '\\","', '"', "\\", ",", "é\U0001f600", "items", '"items":[]', LONG]),
)
CHANCES = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 5e-324, 1e-07, 0.1, 1 / 3, 1 - 2**-53])


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Ranked, np.ndarray | None]:
    """A list of up to eight items in some order, cut or whole, and the ranks before, as far as they are known."""
    listed = tuple(draw(st.lists(IDS, min_size=1, max_size=8, unique=True)))
    order = draw(st.permutations(range(len(listed))))[: draw(st.integers(0, len(listed)))]
    actions = tuple(
        draw(st.lists(st.sampled_from(["click", "buy", 'a"b', "é", "5%b"]), min_size=1, max_size=3, unique=True))
    )

    def numbers(shape: tuple[int, ...], values: st.SearchStrategy[float]) -> np.ndarray:
        count = int(np.prod(shape))
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), np.float64).reshape(shape)

    ranked = Ranked(
        listed,
        np.array(order, np.int64),
        numbers((len(order),), st.floats(0, 1e300)),
        numbers((len(order), len(actions)), CHANCES),
        actions,
        propensities=draw(st.none() | st.just(numbers((len(order),), CHANCES))),
    )
    before = st.lists(st.integers(0, 2000), min_size=len(listed), max_size=len(listed))
    previous = draw(st.none() | before)
    return ranked, None if previous is None else np.array(previous, np.int64)


def plain(row: UserRow, ranked: Ranked, previous: np.ndarray | None, detail: RankingDetail = "full") -> Ranking:
    """The record, an object an item."""
    assert row.candidates is not None
    return Ranking(
        ranking_id=f"u:{row.candidates.request_id}:{row.revision}:v",
        user_id="u",
        revision=row.revision,
        applied=row.applied,
        request_id=row.candidates.request_id,
        ts=row.now,
        model="v",
        cause=CAUSE,
        items=[
            RankedItem(
                item_id=ranked.listed[at],
                rank=place + 1,
                previous_rank=None if previous is None else int(previous[at]) or None,
                score=None if detail == "order" else float(ranked.scores[place]),
                probabilities=(
                    dict(zip(ranked.actions, ranked.probabilities[place].tolist(), strict=True))
                    if detail == "full"
                    else {}
                ),
                propensity=None if ranked.propensities is None else float(ranked.propensities[place]),
            )
            for place, at in enumerate(ranked.order.tolist())
        ],
        delta=7,
        epoch=row.epoch,
    )


def row_of(listed: tuple[str, ...], request_id: str = 'r"1') -> UserRow:
    """A row with that list."""
    current = CurrentList(1_763_700_000_000, request_id, None, {}, listed, (), b"")
    return UserRow(applied={"clicks": 41, '"items":[]': 7}, revision=8, lists=(current,), epoch=1_763_000_000_000)


@settings(deadline=None)
@given(rankings(), st.sampled_from(get_args(RankingDetail)))
def test_the_bytes_decode_to_the_record(made: tuple[Ranked, np.ndarray | None], detail: RankingDetail) -> None:
    """Whatever the ids are made of; every number is the same float, and the bytes are those that the record gives."""
    ranked, previous = made
    row = row_of(ranked.listed)
    written = encode_ranking("u", row, ranked, CAUSE, "v", previous, 7, detail)
    expected = plain(row, ranked, previous, detail)
    assert msgspec.json.decode(written, type=Ranking) == expected
    assert msgspec.json.decode(written) == msgspec.json.decode(msgspec.json.encode(expected))
    assert RANKING.is_valid(msgspec.json.decode(written))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 3000])
def test_lists_longer_than_the_pieces_that_are_kept(count: int) -> None:
    """A rank is written the same whether its piece was there or not."""
    listed = tuple(f"i{at}" for at in range(count))
    order = np.arange(count)[::-1].copy()
    ranked = Ranked(listed, order, np.linspace(1, 0, count), np.linspace(1, 0, count)[:, None], ("click",))
    previous = np.arange(1, count + 1)
    row = row_of(listed)
    found = msgspec.json.decode(encode_ranking("u", row, ranked, CAUSE, "v", previous, 7), type=Ranking)
    assert found == plain(row, ranked, previous)


def test_ids_that_look_like_the_end_of_an_id() -> None:
    """Quotes, commas and backslashes at either end of one: each item has its own id."""
    listed = ('",', ',"', '","', '"', "\\", '\\"', "plain", '\\",\\"')
    count = len(listed)
    ranked = Ranked(listed, np.arange(count)[::-1].copy(), np.zeros(count), np.zeros((count, 1)), ("click",))
    written = encode_ranking("u", row_of(listed), ranked, CAUSE, "v", None, 0, "full")
    found = msgspec.json.decode(written, type=Ranking)
    assert [one.item_id for one in found.items] == list(listed[::-1])
