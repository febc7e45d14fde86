"""The files of a folder, and their lines as they stand: CSV, TSV, JSON lines and Parquet, packed or not, streamed."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
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
_PEEKED = 1000  # bytes that say what an encoding is


class LogLine(NamedTuple):
    """A line of a file: `cells` is column -> text, or what Parquet and JSON have; `fault` says why it is none."""

    file: str
    number: int  # as an editor counts; in Parquet the row, from 1
    cells: dict[str, Any]
    fault: str | None = None


def log_files(folder: Path) -> dict[str, list[Path]]:
    """kind -> its files by name: `interactions.csv`, `interactions-2024-01.csv.gz`, and all of a folder of that name.

    Raises:
        FolderError: there is no such folder, or it has one table in two forms.
    """
    if not folder.is_dir():
        wrong = "is a file; give the folder that holds it" if folder.exists() else "is no folder"
        raise FolderError(f"{folder} {wrong}; it must hold interactions.csv, .tsv, .jsonl or .parquet")
    found: dict[str, list[Path]] = {}
    for kind in FIELDS:
        paths = sorted(path for path in _meant(folder, kind) if path.is_file() and form_of(path) is not None)
        _refuse_two_forms(paths)
        if paths:
            found[kind] = paths
    return found


def unread_files(folder: Path) -> list[Path]:
    """What is called as a kind of file and is none that is read (another form, a folder in a folder, a dead link), and
    tables that are called otherwise.
    """
    meant = [path for kind in FIELDS for path in sorted(_meant(folder, kind))]
    others = [path for path in sorted(folder.iterdir()) if path not in meant and path.name not in FIELDS]
    return [
        path
        for path in (*meant, *others)
        if (path.is_file() and form_of(path) is not None) != (path in meant) and path.name[0] not in "._"
    ]


def unread_names(folder: Path, paths: Iterable[Path]) -> str:
    """What is not read, for a report; a folder that is called as a file says so."""
    return ", ".join(
        f"{path.relative_to(folder)}"
        + (f" (a folder: call it {stem_of(path)})" if path.is_dir() and form_of(path) is not None else "")
        for path in paths
    )


def _meant(folder: Path, kind: str) -> Iterator[Path]:
    """Everything that is called as a file of a kind, or lies in the folder of that name."""
    own = folder / kind
    yield from (path for path in folder.iterdir() if _is_of(path, kind) and not (path == own and path.is_dir()))
    yield from own.iterdir() if own.is_dir() else ()


def _refuse_two_forms(paths: list[Path]) -> None:
    """Lines are named by their file's name without endings: two of one name would be taken for repeats."""
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(stem_of(path), path)
        if other != path:
            raise FolderError(
                f"{other} and {path.name} look like one table in two forms, and would count twice; take one out, or "
                f"name parts as {stem_of(path)}-1{path.suffix}"
            )


def stem_of(path: Path) -> str:
    """A file's name without the endings that say its form: `interactions-2024.01` of `interactions-2024.01.csv.gz`.

    What follows the point in `interactions.old.csv` tells no part of a log.
    """
    name = path.name
    if (kind := name.partition(".")[0]) in FIELDS:
        return kind
    for endings in (PACKED, TABLE_FORMS):
        ending = next((one for one in endings if name.lower().endswith(one)), "")
        name = name[: len(name) - len(ending)]
    return name


def form_of(path: Path) -> str | None:
    """`.csv`, `.tsv`, `.jsonl` or `.parquet`, packed or not; None for another file."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in TABLE_FORMS else None


def _is_of(path: Path, kind: str) -> bool:
    stem = path.name.partition(".")[0]
    return stem == kind or stem.startswith((f"{kind}-", f"{kind}_"))


def columns_of(path: Path, delimiter: str | None = None) -> list[str]:
    """The columns of a file; those of JSON lines are the fields of all of them, for which it is read to its end.

    Raises:
        FolderError: it is no table.
    """
    names: dict[str, None] = {}
    fault = ""
    for line in lines_of(path, delimiter, header=True):
        names |= dict.fromkeys(line.cells)
        fault = fault or (f" that can be read (line {line.number}: {line.fault})" if line.fault else "")
        if form_of(path) != ".jsonl":
            break
    if not names:
        raise FolderError(f"{path} holds nothing{fault}; it must be {_WANTED[form_of(path) or '.csv']}")
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
    except UnicodeDecodeError as error:
        problem = f"line {_first_undecodable(path)} is not UTF-8, as `iconv -f latin1 -t utf-8` would make it"
        raise FolderError(f"{path} is no table ({problem}); it must be {_WANTED[form or '.csv']}") from error
    except _NO_TABLE as error:
        problem = str(error).partition("\n")[0]
        raise FolderError(f"{path} is no table ({problem}); it must be {_WANTED[form or '.csv']}") from error
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror or error}") from error


#: What readers raise on files that are not what they are called. A panic is how polars says it of some.
_NO_TABLE = (
    gzip.BadGzipFile, EOFError, zlib.error, csv.Error, zstandard.ZstdError, pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)  # fmt: skip
_WANTED = {
    ".csv": "lines of text in UTF-8 with a header, parted by commas",
    ".tsv": "lines of text in UTF-8 with a header, parted by tabs",
    ".jsonl": "one JSON object a line, in UTF-8",
    ".parquet": "a Parquet file",
}


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    with path.open("rb") as file:
        packed = path.suffix.lower()
        if packed == ".gz":
            yield io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
        elif packed == ".zst":
            yield io.BufferedReader(_Unzstd(file))
        else:
            yield file


class _Unzstd(io.RawIOBase):
    """A Zstandard file, unpacked. Unlike the library's reader it tells a file that was cut off from one that ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._held = file, b""
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            packed = self._file.read(1 << 16)
            if not packed and self._frame is not None:
                raise EOFError("compressed file ended before the end of its last frame")
            if not packed:
                return 0
            self._held = b"".join(self._frames(packed))
        taken = len(self._held[: len(buffer)])
        buffer[:taken], self._held = self._held[:taken], self._held[taken:]
        return taken

    def _frames(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            yield self._frame.decompress(packed)
            packed = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame


def _first_undecodable(path: Path) -> int:
    with _unpacked(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _text_lines(path: Path, delimiter: str | None, header: bool) -> Iterator[LogLine]:
    csv.field_size_limit(_LONGEST_CELL)
    with _unpacked(path) as file:
        begins = file.peek(_PEEKED)[:_PEEKED]
        # Spreadsheets save "Unicode text" as UTF-16, with a mark in front that says so.
        wide = begins.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if b"\0" in begins.partition(b"\n")[0] and not wide:
            raise FolderError(f"{path} is no text; it must be {_WANTED[form_of(path) or '.csv']}")
        encoding = "utf-16" if wide else "utf-8-sig"
        with io.TextIOWrapper(file, encoding, newline="") as text:
            first = text.readline(_LONGEST_CELL)
            if not first.strip():
                raise FolderError(f"{path} has no header; its first line must name the columns")
            parted = delimiter or max(",;|\t", key=first.count)
            quoting: Literal[0, 3] = csv.QUOTE_NONE if form_of(path) == ".tsv" else csv.QUOTE_MINIMAL
            held: list[str] = []  # what the row that is read is made of
            reader = csv.reader(_held(chain([first], text), held), delimiter=parted, quoting=quoting)
            names = [name.strip() for name in next(reader)]
            _refuse_twice(path, names)
            if header:
                yield LogLine(path.name, 1, dict.fromkeys(names))
            ended = reader.line_num
            held.clear()
            for cells in reader:
                began, ended = ended + 1, reader.line_num
                if cells:
                    paired = ended == began or _quotes_pair(held, parted)
                    fault = _fault(len(cells), len(names), began, ended, paired)
                    yield LogLine(path.name, began, dict(zip(names, cells, strict=False)), fault)
                held.clear()


def _held(lines: Iterable[str], held: list[str]) -> Iterator[str]:
    for line in lines:
        held.append(line)
        yield line


def _quotes_pair(lines: list[str], delimiter: str) -> bool:
    """Whether the quotes of a row that goes over several lines stand where they may. Else it holds other rows."""
    try:
        return len(list(csv.reader(lines, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _refuse_twice(path: Path, names: list[str]) -> None:
    for name, times in Counter(names).items():
        if name and times > 1:
            raise FolderError(f"{path} names {times} columns {name!r}; each must have a name of its own")


def _fault(cells: int, names: int, began: int, ended: int, paired: bool) -> str | None:
    if cells == names and paired:
        return None
    on = f"goes on to line {ended}: is a quote left open?" if ended > began else ""
    if cells == names:
        return f"it {on} One within a quoted text is written twice"
    return f"it has {cells} cells; the header has {names}{', and ' if on else ''}{on}"


def _json_lines(path: Path, header: bool) -> Iterator[LogLine]:
    del header
    with _unpacked(path) as file:
        for number, line in enumerate(file, 1):
            bare = line.removeprefix(codecs.BOM_UTF8).strip()
            if not bare:
                continue
            try:
                parsed = msgspec.json.decode(bare)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield LogLine(path.name, number, {}, f"it is not JSON in UTF-8: {error}")
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
        if path.suffix.lower() in PACKED:
            plain = Path(folder) / "table.parquet"
            with _unpacked(path) as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        table = _flat_table(pl.scan_parquet(plain, glob=False))
        schema = table.collect_schema()
        if header:
            yield LogLine(path.name, 0, dict.fromkeys(schema))
        count = table.select(pl.len()).collect().item()
        for start in range(0, count, _ROWS_AT_ONCE):
            rows = table.slice(start, _ROWS_AT_ONCE).collect().iter_rows(named=True)
            yield from (LogLine(path.name, start + at, row) for at, row in enumerate(rows, 1))


def _flat_table(table: pl.LazyFrame) -> pl.LazyFrame:
    """A struct's fields as columns, as `_flat` has those of JSON."""
    columns: list[pl.Expr] = []
    for name, kind in table.collect_schema().items():
        if isinstance(kind, pl.Struct):
            columns += [pl.col(name).struct.field(field.name).alias(f"{name}.{field.name}") for field in kind.fields]
        else:
            columns.append(pl.col(name))
    return table.select(columns)
