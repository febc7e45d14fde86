"""State is a fold: the changelog's rows against the offline fold of the inputs, and inputs against what was sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from liverank.faults.checker.violations import Violation
from liverank.faults.load.inputs import InputPlace, Recorded, record_digest
from ranker.contracts.errors import RowError
from ranker.state.codec import assembled, decode_list, decode_row, list_prefix
from ranker.state.row import UserRow

#: Partition and user id; of what is stored, the name of the user's row.
RowPlace = tuple[int, bytes]
#: The newest value under each key of the changelog.
Stored = Mapping[RowPlace, bytes]


def check_sent(recorded: Iterable[Recorded], held: Mapping[InputPlace, bytes]) -> Iterator[Violation]:
    """What the broker acknowledged is on its topic.

    Args:
        recorded: what was sent.
        held: place -> `record_digest` of the record there.
    """
    for one in recorded:
        if one.place is not None and held.get(one.place) != record_digest(one.planned.key, one.planned.value):
            yield Violation("input-lost", f"the broker acknowledged {one.place}, and does not hold it")


def check_rows(stored: Stored, folded: Mapping[RowPlace, UserRow]) -> Iterator[Violation]:
    """Every row is the fold of its user's inputs, and there is no other.

    Args:
        stored: the changelog.
        folded: the fold of the input topics, by the names of rows.
    """
    users = {place for place in stored if b"\xff" not in place[1]}
    for partition, user in users - set(folded):
        yield Violation("row-unasked", f"{_named(user)} in partition {partition} has a row, and no input gave it")
    for place, row in folded.items():
        if place not in users:
            yield Violation("row-missing", f"{_named(place[1])} in partition {place[0]} has inputs, and no row")
            continue
        try:
            wrong = row_differences(row_of(stored, place), row)
        except RowError as error:
            wrong = [str(error)]
        if wrong:
            yield Violation("row-differs", f"{_named(place[1])} in partition {place[0]}: {'; '.join(wrong)}")


def stored_rows(stored: Stored) -> dict[RowPlace, UserRow]:
    """The users' rows, as the changelog has them."""
    return {place: row_of(stored, place) for place in stored if b"\xff" not in place[1]}


def row_of(stored: Stored, place: RowPlace) -> UserRow:
    """A user's row of its head and the lists beside it.

    A list that the head does not know of is of a worker that ended between the two: who reads the row next takes it
    away.

    Raises:
        RowError: it cannot be read.
    """
    head = decode_row(stored[place])
    prefix, lists = list_prefix(place[1]), {}
    for known in head.lists:
        beside = stored.get((place[0], prefix + known.request_id.encode()))
        if beside is not None:
            lists[known.request_id] = decode_list(beside)
    return assembled(head, lists)


def row_differences(stored: UserRow, folded: UserRow) -> list[str]:
    """The fields in which two rows differ, but for when they were begun; the summary, a sum in another order, may to
    rounding."""
    unequal = [
        f"{name}: {getattr(stored, name)!r:.200} instead of {getattr(folded, name)!r:.200}"
        for name in UserRow.__struct_fields__
        if name not in ("summary", "epoch") and getattr(stored, name) != getattr(folded, name)
    ]
    if not np.allclose(stored.long_term(), folded.long_term(), rtol=1e-4, atol=1e-4):
        unequal.append("summary")
    return unequal


def _named(user: bytes) -> str:
    return user.decode(errors="replace")
