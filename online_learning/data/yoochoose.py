"""Clicks in the sessions of a shop (Yoochoose, RecSys Challenge 2015): what is clicked next, without lists.

Each session is a user of its own, for the log knows no others; each line is a click. Purchases stand in another file
and are left out. Source: D. Ben-Shimon et al., "RecSys Challenge 2015 and the YOOCHOOSE Dataset", RecSys 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from online_learning.data.dataset import DataSet, DataSetError, LogRecord, arrivals, read_table
from online_learning.recipe import Recipe
from ranker.contracts.records import Interaction
from ranker.contracts.schema import CandidateFeature, FeatureSchema, Normalise

YOOCHOOSE_COLUMNS: dict[str, pl.DataType] = {
    "session_id": pl.String(),
    "item_id": pl.String(),
    "timestamp": pl.Float64(),
}
_OWNERS_COLUMNS = ("session_id", "timestamp", "item_id", "category")


YOOCHOOSE_SCHEMA = FeatureSchema(
    candidate_features=(CandidateFeature(name="score", normalise=(Normalise.NONE, Normalise.LIST_RANK)),)
)


def yoochoose_records(path: Path) -> Iterator[LogRecord]:
    """The clicks in order of time.

    Args:
        path: the owners' `yoochoose-clicks.dat`, or a Parquet or CSV file with the columns session_id, item_id and
            timestamp, in seconds since the epoch.

    Raises:
        DataSetError: the file is missing, or lacks a column.
    """
    log = _owners_log(path) if path.suffix == ".dat" else read_table(path, YOOCHOOSE_COLUMNS)
    log = log.sort("timestamp", maintain_order=True).with_columns(
        ts=(pl.col("timestamp") * 1000).round().cast(pl.Int64), place=pl.int_range(pl.len()).over("session_id")
    )
    yield from arrivals(_clicks(log))


def _owners_log(path: Path) -> pl.DataFrame:
    try:
        log = pl.read_csv(path, has_header=False, new_columns=list(_OWNERS_COLUMNS), infer_schema=False)
        moment = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ").dt.epoch("ms")
        return log.select("session_id", "item_id", timestamp=moment / 1000)
    except (OSError, pl.exceptions.PolarsError) as error:
        wanted = ", ".join(_OWNERS_COLUMNS)
        raise DataSetError(
            f"{path} cannot be read ({error}); wanted are lines of {wanted}, without a header"
        ) from error


def _clicks(log: pl.DataFrame) -> Iterator[Interaction]:
    for session, item, ts, place in log.select("session_id", "item_id", "ts", "place").iter_rows():
        yield Interaction(user_id=session, item_id=item, action="click", event_id=f"{session}-{place}", ts=ts)


YOOCHOOSE = DataSet(
    name="yoochoose",
    schema=YOOCHOOSE_SCHEMA,
    recalled=100,
    recipe=Recipe(neighbours=64, lag_s=10, id_dropout=1.0, epochs=5, learning_rate=3e-3),
    records=yoochoose_records,
    source="https://recsys.acm.org/recsys15/challenge/",
)
