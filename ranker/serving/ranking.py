"""From scores to the record that goes out: its bytes, put together from columns rather than item by item."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.records import Cause, Ranking, RankReason
from ranker.serving.options import RankingDetail
from ranker.state.row import UserRow

_encode = msgspec.json.Encoder().encode

_PREVIOUS = [b"null", *(b"%d" % rank for rank in range(1, 1025))]  # the ranks of nearly all lists


class Ranked(Struct, frozen=True):
    """A list in its new order, best first: n shown of C candidates.

    `propensities` holds the chance of each item's place, where the ranking explores.
    """

    listed: tuple[str, ...]  # ids of the candidates, in the order in which the list came
    order: np.ndarray  # int64 [n] places in `listed`
    scores: np.ndarray  # float64 [n]
    probabilities: np.ndarray  # float64 [n, actions]
    actions: tuple[str, ...]
    propensities: np.ndarray | None = None  # float64 [n]
    statistics: np.ndarray | None = None  # float32 [C, len(STATISTICS)] that it was made with, as the list came

    @property
    def item_ids(self) -> list[str]:
        """The ids in the new order."""
        return [self.listed[at] for at in self.order.tolist()]

    @property
    def ranks(self) -> np.ndarray:
        """int32 [C]: the rank of each candidate, from 1; 0 where it is not shown."""
        ranks = np.zeros(len(self.listed), np.int32)
        ranks[self.order] = np.arange(1, len(self.order) + 1)
        return ranks


def ranking_id(user_id: str, row: UserRow, model_version: str) -> str:
    """Names a ranking: the same list of the same row ranked by the same version again is the same ranking."""
    assert row.candidates is not None
    return f"{user_id}:{row.candidates.request_id}:{row.revision}:{model_version}"


def encode_ranking(
    user_id: str,
    row: UserRow,
    ranked: Ranked,
    cause: Cause,
    model_version: str,
    previous: np.ndarray | None = None,
    delta: int = 0,
    detail: RankingDetail = "full",
    reasons: Sequence[Sequence[RankReason]] = (),
) -> bytes:
    """The ranking record of one list of a user, as JSON.

    Args:
        user_id: whose list it is.
        row: the state that was ranked, as `UserRow.of` gives it for the list.
        ranked: what `ServingModel.rank` gave for this row.
        cause: the newest input that the row knows of.
        model_version: the version that ranked.
        previous: int [C], the rank of each candidate in the ranking before, of the same list, from 1; 0 where it is not
            known.
        delta: sequence of the last delta that the version has taken.
        detail: what is said of each item.
        reasons: of the first items.
    """
    lines = _lines(ranked, previous, detail)
    if reasons:
        lines = _with_reasons(lines, reasons)
    assert row.candidates is not None
    return _encode(
        Ranking(
            ranking_id=ranking_id(user_id, row, model_version),
            user_id=user_id,
            revision=row.revision,
            applied=row.applied,
            request_id=row.candidates.request_id,
            ts=row.now,
            model=model_version,
            cause=cause,
            items=msgspec.Raw(lines),  # type: ignore[arg-type]  # a list of `RankedItem`, encoded
            delta=delta,
            epoch=row.epoch,
        )
    )


def _lines(ranked: Ranked, previous: np.ndarray | None, detail: RankingDetail) -> bytes:
    """The items as JSON, which a list of `RankedItem` is encoded to: all numbers in one call, put where they belong."""
    order, count = ranked.order.tolist(), len(ranked.order)
    if not count:
        return b"[]"
    ids = _texts(ranked.listed)
    before = [0] * count if previous is None else previous[ranked.order].tolist()
    columns = [] if detail == "order" else [ranked.scores]
    if detail == "full":
        columns += [*ranked.probabilities.T]
    if ranked.propensities is not None:
        columns.append(ranked.propensities)
    width = 2 + len(columns)
    parts: list[bytes] = [b""] * (width * count)
    parts[0::width] = [ids[at] for at in order]
    parts[1::width] = [_PREVIOUS[rank] if rank < len(_PREVIOUS) else b"%d" % rank for rank in before]
    numbers = _encode(np.concatenate(columns).tolist())[1:-1].split(b",") if columns else []
    for column in range(len(columns)):
        parts[2 + column :: width] = numbers[column * count : (column + 1) * count]
    return _form(count, ranked.actions, ranked.propensities is not None, detail) % tuple(parts)


def _with_reasons(lines: bytes, reasons: Sequence[Sequence[RankReason]]) -> bytes:
    """The items as JSON, the first of them with their reasons."""
    items = [bytes(line) for line in msgspec.json.decode(lines, type=list[msgspec.Raw])]
    for at, some in enumerate(reasons):
        if some:
            items[at] = items[at][:-1] + b',"reasons":' + _encode(some) + b"}"
    return b"[" + b",".join(items) + b"]"


@lru_cache(maxsize=64)
def _form(count: int, actions: tuple[str, ...], explores: bool, detail: RankingDetail) -> bytes:
    """So many lines as JSON with `%b` where their ids and numbers belong: 80 bytes a line or more."""
    rest = b',"previous_rank":%b'
    if detail != "order":
        rest += b',"score":%b'
    if detail == "full":
        chances = b",".join(_encode(action).replace(b"%", b"%%") + b":%b" for action in actions)
        rest += b',"probabilities":{' + chances + b"}"
    if explores:
        rest += b',"propensity":%b'
    return b"[" + b",".join(b'{"item_id":"%%b","rank":%d' % rank + rest + b"}" for rank in range(1, count + 1)) + b"]"


def _texts(listed: Sequence[str]) -> list[bytes]:
    """The ids as JSON has them, without their quotes: all in one call, where none has a character that JSON escapes."""
    together = _encode(listed)
    if b"\\" in together:  # a quote within an id may look like the end of one
        return [_encode(item)[1:-1] for item in listed]
    return together[2:-2].split(b'","')
