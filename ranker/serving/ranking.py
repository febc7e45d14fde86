"""From scores to the record that goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.records import Cause, RankedItem, Ranking
from ranker.state.row import UserRow


class Ranked(Struct, frozen=True):
    """A list in its new order, best first: ids, scores, and one probability an action for each.

    `propensities` holds the chance of each item's place, where the ranking explores. `statistics` are those that it was
    made with, float32 [candidates, len(STATISTICS)] in the order in which the list came.
    """

    item_ids: list[str]
    scores: list[float]
    probabilities: list[list[float]]
    actions: tuple[str, ...]
    propensities: list[float] | None = None
    statistics: np.ndarray | None = None


def ranking_id(user_id: str, row: UserRow, model_version: str) -> str:
    """Names a ranking: the same list of the same row ranked by the same version again is the same ranking."""
    assert row.candidates is not None
    return f"{user_id}:{row.candidates.request_id}:{row.revision}:{model_version}"


def answer(
    user_id: str,
    row: UserRow,
    ranked: Ranked,
    cause: Cause,
    model_version: str,
    previous: Mapping[str, int] | None = None,
    delta: int = 0,
) -> Ranking:
    """The ranking record of one list of a user.

    Args:
        user_id: whose list it is.
        row: the state that was ranked, as `UserRow.of` gives it for the list.
        ranked: what `ServingModel.rank` gave for this row.
        cause: the newest input that the row knows of.
        model_version: the version that ranked.
        previous: item id -> rank in the ranking before, of the same list; None where it is not known.
        delta: sequence of the last delta that the version has taken.
    """
    assert row.candidates is not None
    ranks = previous or {}
    propensities: Sequence[float | None] = ranked.propensities or [None] * len(ranked.item_ids)
    lines = zip(ranked.item_ids, ranked.scores, ranked.probabilities, propensities, strict=True)
    return Ranking(
        ranking_id=ranking_id(user_id, row, model_version),
        user_id=user_id,
        revision=row.revision,
        applied=row.applied,
        request_id=row.candidates.request_id,
        ts=row.now,
        model=model_version,
        cause=cause,
        items=[
            RankedItem(
                item_id=item_id,
                rank=rank,
                previous_rank=ranks.get(item_id),
                score=score,
                probabilities=dict(zip(ranked.actions, chances, strict=True)),
                propensity=propensity,
            )
            for rank, (item_id, score, chances, propensity) in enumerate(lines, 1)
        ],
        delta=delta,
        epoch=row.epoch,
    )


encode_ranking = msgspec.json.Encoder().encode
