"""The files of a folder, and their lines as they stand: CSV, TSV, JSON lines and Parquet, packed or not, streamed."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec
import polars as pl
import zstandard

from online_learning.folder.description import FIELDS, FolderError

TABLE_FORMS = (".csv", ".tsv", ".jsonl", ".parquet")
PACKED = (".gz", ".zst")
_ROWS_AT_ONCE = 20_000
_LONGEST_CELL = 1 << 26
_LOOKED_AT = 1000  # lines of a JSONL file whose fields are its columns


class LogLine(NamedTuple):
    """A line of a file: `cells` is column -> text, or what Parquet and JSON have; `fault` says why it is none."""

    file: str
    number: int  # as an editor counts; in Parquet the row, from 1
    cells: dict[str, Any]
    fault: str | None = None


def log_files(folder: Path) -> dict[str, list[Path]]:
    """kind -> its files by name: `interactions.csv`, `interactions-2024-01.csv.gz`, and all of a folder of that name.

    Raises:
        FolderError: there is no such folder.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder; give one that holds interactions.csv, .tsv, .jsonl or .parquet")
    found: dict[str, list[Path]] = {}
    for kind in FIELDS:
        inside = (folder / kind).iterdir() if (folder / kind).is_dir() else iter(())
        beside = (path for path in folder.iterdir() if _is_of(path, kind))
        paths = sorted(path for path in (*beside, *inside) if path.is_file() and form_of(path) is not None)
        if paths:
            found[kind] = paths
    return found


def form_of(path: Path) -> str | None:
    """`.csv`, `.tsv`, `.jsonl` or `.parquet`, packed or not; None for another file."""
    unpacked = path.with_suffix("") if path.suffix in PACKED else path
    return unpacked.suffix if unpacked.suffix in TABLE_FORMS else None


def _is_of(path: Path, kind: str) -> bool:
    stem = path.name.partition(".")[0]
    return stem == kind or stem.startswith((f"{kind}-", f"{kind}_"))


def columns_of(path: Path, delimiter: str | None = None) -> list[str]:
    """The columns of a file; those of JSON lines are the fields of its first thousand.

    Raises:
        FolderError: it is no table.
    """
    names: dict[str, None] = {}
    for count, line in enumerate(lines_of(path, delimiter, header=True), 1):
        names |= dict.fromkeys(line.cells)
        if form_of(path) != ".jsonl" or count >= _LOOKED_AT:
            break
    return list(names)


def lines_of(path: Path, delimiter: str | None = None, header: bool = False) -> Iterator[LogLine]:
    """The lines of a file, one after another, in a memory that does not grow with it.

    Args:
        path: of one of `TABLE_FORMS`, packed or not.
        delimiter: of .csv; else the one of `,`, `;` and `|` that its header has most of.
        header: give a line with the columns first, whose cells are empty, where the file has a header.

    Raises:
        FolderError: it is no table.
    """
    form = form_of(path)
    read = {".jsonl": _json_lines, ".parquet": _parquet_rows}.get(form or "")
    try:
        if read is not None:
            yield from read(path, header)
        else:
            yield from _text_lines(path, "\t" if form == ".tsv" else delimiter, header)
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
        csv.Error,
        zstandard.ZstdError,
        pl.exceptions.PolarsError,
    ) as error:
        problem = str(error).partition("\n")[0]
        raise FolderError(f"{path} is no table ({problem}); it must be {_WANTED[form or '.csv']}") from error


_WANTED = {
    ".csv": "lines of text in UTF-8 with a header, parted by commas",
    ".tsv": "lines of text in UTF-8 with a header, parted by tabs",
    ".jsonl": "one JSON object a line, in UTF-8",
    ".parquet": "a Parquet file",
}


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.suffix == ".gz":
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        elif path.suffix == ".zst":
            plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            yield cast("IO[bytes]", io.BufferedReader(cast(io.RawIOBase, plain)))
        else:
            yield file


def _text_lines(path: Path, delimiter: str | None, header: bool) -> Iterator[LogLine]:
    csv.field_size_limit(_LONGEST_CELL)
    with _unpacked(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        first = text.readline()
        if not first.strip() or "\0" in first:
            raise FolderError(f"{path} has no header; its first line must name the columns")
        parted = delimiter or max(",;|", key=first.count)
        quoting: Literal[0, 3] = csv.QUOTE_NONE if form_of(path) == ".tsv" else csv.QUOTE_MINIMAL
        names = next(csv.reader([first], delimiter=parted, quoting=quoting))
        if header:
            yield LogLine(path.name, 1, dict.fromkeys(names))
        reader = csv.reader(text, delimiter=parted, quoting=quoting)
        for cells in reader:
            if not cells:
                continue
            fault = f"it has {len(cells)} cells; the header has {len(names)}" if len(cells) != len(names) else None
            yield LogLine(path.name, reader.line_num + 1, dict(zip(names, cells, strict=False)), fault)


def _json_lines(path: Path, header: bool) -> Iterator[LogLine]:
    del header
    with _unpacked(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                parsed = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                yield LogLine(path.name, number, {}, f"it is not JSON: {error}")
                continue
            if isinstance(parsed, dict):
                yield LogLine(path.name, number, dict(_flat(parsed)))
            else:
                yield LogLine(path.name, number, {}, "it is no JSON object")


def _flat(parsed: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """`{"context": {"device": ...}}` as the column `context.device`."""
    for name, value in parsed.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", cell) for inner, cell in value.items())
        else:
            yield name, value


def _parquet_rows(path: Path, header: bool) -> Iterator[LogLine]:
    with tempfile.TemporaryDirectory(prefix="liverank-unpacked-") as folder:
        plain = path
        if path.suffix in PACKED:
            plain = Path(folder) / "table.parquet"
            with _unpacked(path) as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        table = pl.scan_parquet(plain, glob=False)
        schema = table.collect_schema()
        if header:
            yield LogLine(path.name, 0, dict.fromkeys(schema))
        count = table.select(pl.len()).collect().item()
        for start in range(0, count, _ROWS_AT_ONCE):
            rows = table.slice(start, _ROWS_AT_ONCE).collect().iter_rows(named=True)
            yield from (LogLine(path.name, start + at, row) for at, row in enumerate(rows, 1))
