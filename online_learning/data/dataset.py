"""What a public data set is here: a feature schema, and the file as the records that would arrive on the topics."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl

from online_learning.recipe import Recipe
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema

LogRecord = Item | User | Interaction | CandidateList


class DataSetError(LiverankError):
    """The path holds no such data set: what is missing, and what a reader of it wants."""


@dataclass(frozen=True)
class DataSet:
    """A data set by name. Nothing of it is part of this project: `records` opens a path that the user gives.

    `records(path)` yields catalogue and users first, where there are any, then interactions and lists by (ts, as
    logged). A user's `ts` strictly increases, every `event_id` is unique and the same in all runs. Raises DataSetError.
    """

    name: str
    schema: FeatureSchema
    records: Callable[[Path], Iterator[LogRecord]]
    source: str  # where its owners publish it; empty for a person's own events in others' form
    lists: bool = False  # whether it logs the lists that were shown
    recalled: int = 0  # items of the lists that are recalled for it from counts; 0: lists are logged, or sampled
    recipe: Recipe = field(default_factory=Recipe)  # how a first model of it is trained
    notes: Sequence[str] = ()  # what a report on it must say of it, once its records are read


def read_table(path: Path, columns: Mapping[str, pl.DataType], separator: str = ",") -> pl.DataFrame:
    """The named columns of a Parquet file, or of a text file with a header, cast to the types given.

    Raises:
        DataSetError: no such file, a column is absent, or a value is not of its type.
    """
    wanted = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(
                path, separator=separator, infer_schema=False, quote_char=None if separator == "\t" else '"'
            )
        return frame.select(pl.col(name).cast(kind) for name, kind in columns.items())
    except FileNotFoundError as error:
        raise DataSetError(f"{path} does not exist; give a file with the columns {wanted}") from error
    except pl.exceptions.ColumnNotFoundError as error:
        found = ", ".join(frame.columns)
        raise DataSetError(f"{path} has the columns {found}; wanted are {wanted}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        problem = str(error).partition("\n")[0]  # polars goes on about its query
        raise DataSetError(f"{path} cannot be read ({problem}); wanted are the columns {wanted}") from error


def arrivals(
    logged: Iterable[Interaction | CandidateList], users_at_a_time: int = 1 << 16
) -> Iterator[Interaction | CandidateList]:
    """Gives each user's records strictly increasing times and keeps all of them in order of time.

    A log in whole seconds has many records of a user at one time; they move a millisecond apart, in the order logged.

    Args:
        logged: records ordered by `ts`, in milliseconds.
        users_at_a_time: whose newest times are remembered before those that are past are forgotten.
    """
    newest: dict[str, int] = {}
    room = users_at_a_time
    waiting: list[tuple[int, int, Interaction | CandidateList]] = []  # moved ahead of others that are still to come
    for count, record in enumerate(logged):
        assert record.ts is not None
        while waiting and waiting[0][0] < record.ts:
            yield heapq.heappop(waiting)[2]
        ts = max(record.ts, newest.get(record.user_id, record.ts - 1) + 1)
        newest[record.user_id] = ts
        if len(newest) > room:  # of who was there before now nothing need be known
            newest = {user: last for user, last in newest.items() if last >= record.ts}
            room = max(users_at_a_time, 2 * len(newest))
        moved = record if ts == record.ts else msgspec.structs.replace(record, ts=ts)
        heapq.heappush(waiting, (ts, count, moved))
    while waiting:
        yield heapq.heappop(waiting)[2]
