"""A public data set as a folder: Parquet files of its records, and a liverank.toml with its schema and recipe."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from msgspec import Struct

from online_learning.data.dataset import DataSet, LogRecord
from online_learning.folder.description import CONFIG_FILE, FolderError
from online_learning.folder.written import recipe_text, schema_text
from ranker.contracts.records import CandidateList, Interaction, Item, User

_ROWS_A_PART = 200_000
_KIND_OF: dict[type, str] = {
    Item: "items", User: "users", CandidateList: "candidates", Interaction: "interactions",
}  # fmt: skip


class Converted(Struct, frozen=True, kw_only=True):
    """What a conversion wrote: kind of file -> lines."""

    folder: str
    lines: dict[str, int]


def convert(data: DataSet, path: Path, out: Path, force: bool = False) -> Converted:
    """Write a data set as a folder.

    Args:
        data: its reader.
        path: its file or folder.
        out: the folder; made where there is none.
        force: write over what a conversion wrote there before.

    Raises:
        DataSetError: the data set cannot be read.
        FolderError: the folder holds a log already, or cannot be written.
    """
    kinds = [kind for kind in _KIND_OF.values() if (out / kind).exists()]
    if (kinds or (out / CONFIG_FILE).exists()) and not force:
        raise FolderError(f"{out} holds {', '.join([*kinds, CONFIG_FILE])} already; give an empty folder, or --force")
    lines = dict.fromkeys(_KIND_OF.values(), 0)
    records = data.records(path)
    first = list(islice(records, 1))  # a data set that cannot be read leaves the folder as it is
    try:
        out.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            shutil.rmtree(out / kind)
        parts = _parts(chain(first, records))
        for number, (kind, rows) in enumerate(parts):
            (out / kind).mkdir(exist_ok=True)
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(out / kind / f"{kind}-{number:06d}.parquet")
            lines[kind] += len(rows)
        (out / CONFIG_FILE).write_text(_config_text(data), encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error}") from error
    return Converted(folder=str(out), lines={kind: count for kind, count in lines.items() if count})


def _config_text(data: DataSet) -> str:
    owners = f"as its owners publish it at {data.source}; their terms hold for these files too"
    parts = [f"# {data.name}, {owners}.\n" if data.source else f"# Made of events of {data.name}.\n"]
    if not data.lists:
        parts.append(
            f"[data]\nrecall = {data.recalled}  # items of recalled lists; 0: lists are sampled, to train on\n"
        )
    return "\n".join([*parts, schema_text(data.schema), recipe_text(data.recipe)])


def _parts(records: Iterable[LogRecord]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    held: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KIND_OF.values()}
    for record in records:
        kind = _KIND_OF[type(record)]
        held[kind].append(_list_row(record) if isinstance(record, CandidateList) else _row(record))
        if len(held[kind]) == _ROWS_A_PART:
            yield kind, held[kind]
            held[kind] = []
    yield from ((kind, rows) for kind, rows in held.items() if rows)


def _row(record: LogRecord) -> dict[str, Any]:
    """A record's fields as columns; those of a map each under their own name."""
    found: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(record).items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def _list_row(record: CandidateList) -> dict[str, Any]:
    names = dict.fromkeys(name for item in record.items for name in item.features or ())
    row = _row(msgspec.structs.replace(record, items=[]))
    row["items"] = [item.item_id for item in record.items]
    if any(item.score is not None for item in record.items):
        row["score"] = [item.score for item in record.items]
    return row | {f"features.{name}": [(item.features or {}).get(name) for item in record.items] for name in names}
