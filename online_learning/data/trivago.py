"""The session log of the RecSys Challenge 2019 (Trivago): hotel searches with the list shown at every clickout.

A clickout becomes the list, as shown and with its prices, and a millisecond later the click on it. Touches of an item
become events of their own actions, looking at its pictures being the plain `view`. Filters, sort orders and searches
for places touch no hotel but say what the person is after: they are events on items of their own (`filter:Pool`). What
is filtered and sorted by also stands in the list's context.

Source: P. Knees et al., "RecSys Challenge 2019: Session-based Hotel Recommendations" (2019). Its terms forbid
redistribution. The challenge's own `train.csv` and `test.csv` have the same columns; a clickout whose target `test.csv`
withholds gives a list and no click.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from online_learning.data.dataset import DataSet, arrivals, read_table
from online_learning.recipe import Recipe
from ranker.contracts.records import Candidate, CandidateList, Context, Interaction
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise

CLICKOUT = "clickout item"
#: What the log calls it -> the action here.
ACTIONS = {
    "interaction item image": "view",
    CLICKOUT: "click",
    "interaction item info": "info",
    "interaction item rating": "rating",
    "interaction item deals": "deals",
    "search for item": "search",
}
#: The same for what names no hotel: the action's name leads the item's id.
INTENTS = {
    "filter selection": "filter",
    "change of sort order": "sort",
    "search for destination": "place",
    "search for poi": "place",
}
#: Filters that order the list rather than narrow it.
SORTS = (
    "sort by price",
    "sort by distance",
    "sort by rating",
    "sort by popularity",
    "focus on distance",
    "focus on rating",
    "best value",
)
TRIVAGO_SCHEMA = FeatureSchema(
    actions=(
        Action(name="view"),
        Action(name="click", positive=True),
        Action(name="info"),
        Action(name="rating"),
        Action(name="deals"),
        Action(name="search"),
        Action(name="filter"),
        Action(name="sort"),
        Action(name="place"),
    ),
    candidate_features=(
        CandidateFeature(name="price", normalise=(Normalise.LIST_LOG, Normalise.LIST_RANK, Normalise.LIST_FLOOR)),
    ),
    context=(
        ContextField(name="device", values=("desktop", "mobile", "tablet")),
        ContextField(name="sort", values=SORTS),
        ContextField(name="filters"),
    ),
)
TRIVAGO_COLUMNS: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "session_id": pl.String(),
    "timestamp": pl.Int64(),
    "step": pl.Int64(),
    "action_type": pl.String(),
    "reference": pl.String(),
    "platform": pl.String(),
    "device": pl.String(),
    "current_filters": pl.String(),
    "impressions": pl.String(),
    "prices": pl.String(),
}


def trivago_records(path: Path) -> Iterator[Interaction | CandidateList]:
    """Lists and interactions of the log, a Parquet or a CSV file, in order of time.

    Raises:
        DataSetError: the file is missing, or lacks a column.
    """
    log = read_table(path, TRIVAGO_COLUMNS).filter(pl.col("action_type").is_in([*ACTIONS, *INTENTS]))
    yield from arrivals(_logged(log.sort("timestamp", "user_id", "session_id", "step")))


def _logged(log: pl.DataFrame) -> Iterator[Interaction | CandidateList]:
    for line in log.iter_rows(named=True):
        ts, event_id = line["timestamp"] * 1000, f"{line['session_id']}-{line['step']}"
        item, is_click = line["reference"], line["action_type"] == CLICKOUT
        if (intent := INTENTS.get(line["action_type"])) is not None:
            yield _intent(line, intent, ts, event_id)
            continue
        shown = (line["impressions"] or "").split("|") if is_click else []
        if any(shown):
            yield _shown_list(line, shown, ts, event_id)
        if not (item or "").isdecimal():  # withheld, or "unknown"
            continue
        yield Interaction(
            user_id=line["user_id"],
            item_id=item,
            action=ACTIONS[line["action_type"]],
            event_id=event_id,
            ts=ts,
            request_id=event_id if any(shown) else None,
            position=shown.index(item) if item in shown else None,
        )


def _intent(line: dict[str, Any], intent: str, ts: int, event_id: str) -> Interaction:
    what = f"{intent}:{line['reference'] or ''}"[:256]
    return Interaction(user_id=line["user_id"], item_id=what, action=intent, event_id=event_id, ts=ts)


def _shown_list(line: dict[str, Any], shown: list[str], ts: int, request_id: str) -> CandidateList:
    prices = (line["prices"] or "").split("|")
    known = prices if len(prices) == len(shown) else [""] * len(shown)
    items = [
        Candidate(item_id=item, features={"price": float(price)} if price else None)
        for item, price in zip(shown, known, strict=True)
    ]
    return CandidateList(request_id=request_id, user_id=line["user_id"], items=items, ts=ts, context=_context(line))


def _context(line: dict[str, Any]) -> Context:
    filters = (line["current_filters"] or "").lower().split("|")
    context: Context = {"filters": float(sum(1 for name in filters if name and name not in SORTS))}
    context |= {name: line[name] for name in ("device", "platform") if line[name]}
    order = next((name for name in filters if name in SORTS), None)
    return context if order is None else {**context, "sort": order}


TRIVAGO = DataSet(
    name="trivago",
    schema=TRIVAGO_SCHEMA,
    records=trivago_records,
    source="https://recsys.acm.org/recsys19/challenge/",
    lists=True,
    # A day of clicks on 65,000 hotels teaches nothing of each: their rows only overfit, so they stay empty.
    recipe=Recipe(id_dropout=1.0, lag_s=3600),
)
