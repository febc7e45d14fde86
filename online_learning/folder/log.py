"""A folder as a data set: the items, the users, then lists and events in the order of time, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from online_learning.data.dataset import DataSet, LogRecord, arrivals
from online_learning.folder.cells import Cells, sources_of
from online_learning.folder.description import (
    CONFIG_FILE,
    FIELDS,
    MAPS,
    RECALLED,
    FolderConfig,
    FolderError,
    read_config,
)
from online_learning.folder.files import (
    TABLE_FORMS,
    columns_of,
    lines_of,
    log_files,
    stem_of,
    unread_files,
    unread_names,
)
from online_learning.folder.records import (
    ListedRow,
    RejectedLine,
    attributes_of,
    interaction_of,
    item_of,
    joined,
    list_of,
    listed_row,
)  # fmt: skip
from online_learning.folder.sorting import Keyed, merge_sorted
from online_learning.progress import Report, counted_off
from ranker.contracts.records import CandidateList, Interaction
from ranker.mapping.sources import Source, nearest
from ranker.mapping.values import BadCell

log = logging.getLogger(__name__)

#: Where a log without times begins, 1 January 2000; its rows are a second apart.
START_WITHOUT_TIMES = 946_684_800_000
_LISTS_FIRST = {"candidates": 0, "impressions": 0, "interactions": 1}
_REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "interactions": (("user_id", "session_id"), ("item_id", "text"), ("action",)),
    "candidates": (("user_id", "session_id"), ("items", "item_id")),
    "impressions": (("user_id", "session_id"), ("item_id",)),
    "items": (("item_id",),),
    "users": (("user_id",),),
}
OnReject = Callable[[RejectedLine], None]


class LogFile(Struct, frozen=True):
    """A file, and where each field of its lines comes from."""

    path: Path
    kind: str
    sources: dict[str, Source]

    @property
    def by_row(self) -> bool:
        """Whether a list has a line for each of its candidates."""
        return self.kind == "impressions" or (self.kind == "candidates" and "items" not in self.sources)


class FolderLog(Struct, frozen=True):
    """The files of a folder with what its liverank.toml says of them."""

    folder: Path
    config: FolderConfig
    files: tuple[LogFile, ...]
    unread: tuple[Path, ...] = ()  # what is called as a file of a log and is none that is read

    def of(self, *kinds: str) -> list[LogFile]:
        """The files of these kinds, by name."""
        return [file for file in self.files if file.kind in kinds]

    @property
    def lists(self) -> bool:
        """Whether it has the lists that were shown."""
        return bool(self.of("candidates", "impressions"))

    @property
    def timeless(self) -> bool:
        """Whether it has no times, so that the order of its rows stands for them."""
        return not any("ts" in file.sources for file in self.of("interactions", "candidates", "impressions"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report on it must say."""
        found = []
        if self.timeless:
            found.append("the log has no times: the order of its rows stands for them, a second apart")
        if not self.lists and self.recalled:
            found.append(f"the log has no lists: {self.recalled} items are recalled from what is known at the time")
        for file in self.of("candidates", "impressions"):
            if file.by_row and not {"request_id", "ts"} & set(file.sources):
                found.append(f"{file.path.name} has no request_id and no ts: all lines of a user are one list")
            if file.by_row and "position" not in file.sources:
                found.append(
                    f"{file.path.name} has no position: the order of a list's lines stands for the order shown"
                )
        if undeclared := list(dict.fromkeys(name for file in self.files for name in self._undeclared(file))):
            found.append(f"nothing is learned from {', '.join(undeclared)}: [schema] does not declare them")
        if self.unread:
            found.append(
                f"not read: {unread_names(self.folder, self.unread)}; what is read ends in {', '.join(TABLE_FORMS)}, "
                f"also .gz or .zst, and is called {', '.join(FIELDS)}"
            )
        return tuple(found)

    def _undeclared(self, file: LogFile) -> Iterator[str]:
        """What a file says of items, lists and users, and the schema does not know."""
        schema = self.config.schema
        fields = [field.name for field in schema.context]
        features = [feature.name for feature in schema.candidate_features]
        known = {
            "features": features,
            "attributes": fields,
            "numeric": schema.item_numeric,
            "actions": schema.valid_actions,
        }
        if file.kind != "interactions":  # what an event says of its moment is kept, and read by nobody yet
            known["context"] = fields
        for name in file.sources:
            group, _, key = name.partition(".")
            if key and key not in known.get(group, (key,)):
                yield name
        if "score" in file.sources and "score" not in features:
            yield "score"

    @property
    def recalled(self) -> int:
        """Items of the lists that are recalled; 0 where the log has its own, or where they are sampled."""
        recall = self.config.data.recall
        return 0 if self.lists else RECALLED if recall is None else recall


def read_log(folder: Path) -> FolderLog:
    """A folder's files, each field's column found.

    Raises:
        FolderError: there are no events, a file is no table, or a column is missing.
        LiverankError: its liverank.toml says what cannot be.
    """
    found, unread = log_files(folder), unread_files(folder)
    if "interactions" not in found and "impressions" not in found:
        raise FolderError(
            f"{folder} holds no events; it must hold interactions or impressions as .csv, .tsv, .jsonl or .parquet"
            + (f", none of which is {unread_names(folder, unread)}" if unread else "")
        )
    config = read_config(folder)
    columns = {path: columns_of(path, config.data.delimiter) for paths in found.values() for path in paths}
    _refuse_unknown_columns(folder, config, {name for names in columns.values() for name in names})
    files = [
        LogFile(path, kind, sources_of(kind, columns[path], config.data, path.name, config.schema))
        for kind, paths in found.items()
        for path in paths
    ]
    if not {"candidates", "impressions"} & set(found):
        for file in files:  # an event would name a list that nobody has, and none that is recalled would be its own
            file.sources.pop("request_id", None)
    for file in files:
        _refuse_missing(file, columns[file.path])
    timed = {"ts" in file.sources for file in files if file.kind in _LISTS_FIRST}
    if timed == {True, False} or (timed == {False} and len({file.kind for file in files} & set(_LISTS_FIRST)) > 1):
        without = ", ".join(file.path.name for file in files if file.kind in _LISTS_FIRST and "ts" not in file.sources)
        raise FolderError(
            f"{folder}: {without} has no times, and nothing says where its lines belong; map ts in [data]"
        )
    return FolderLog(folder, config, tuple(files), tuple(unread))


def _refuse_missing(file: LogFile, columns: list[str]) -> None:
    for fields in _REQUIRED[file.kind]:
        if not any(field in file.sources for field in fields):
            raise FolderError(
                f"{file.path} has no column for {' or '.join(fields)}; name it in [data.{file.kind}] of {CONFIG_FILE}: "
                f"{nearest(fields[0], columns)}"
            )


def _refuse_unknown_columns(folder: Path, config: FolderConfig, columns: set[str]) -> None:
    for field, source in config.data.shared.items():
        name = source.column
        if name is not None and name not in columns:
            raise FolderError(
                f"{folder}: [data] takes {field} from the column {name!r}, which no file has; "
                f"{nearest(name, sorted(columns))}"
            )


def open_folder(folder: Path, report: Report = lambda _: None) -> DataSet:
    """A folder as a data set, for whoever trains, evaluates or replays.

    Lines that make no record are left out; one warning counts them, and a note once all are read.

    Args:
        folder: the folder.
        report: called with how far each reading is.

    Raises:
        LiverankError: as for `read_log`.
    """
    found = read_log(folder)
    recipe, notes = found.config.recipe, list(found.notes)
    if found.recalled and not recipe.neighbours:
        recipe = msgspec.structs.replace(recipe, neighbours=64)  # recall goes by what followed what
    return DataSet(
        name=folder.resolve().name, schema=found.config.schema, records=lambda _: _with_warning(found, report, notes),
        source=str(folder), lists=found.lists, recalled=found.recalled, recipe=recipe, notes=notes,
    )  # fmt: skip


def _with_warning(found: FolderLog, report: Report, notes: list[str]) -> Iterator[LogRecord]:
    rejected: list[RejectedLine] = []
    count = 0

    def keep(line: RejectedLine) -> None:
        nonlocal count
        count += 1
        rejected[:] = rejected or [line]

    taken = 0
    for record in folder_records(found, keep, report):
        taken += isinstance(record, Interaction)
        yield record
    if rejected:
        first = rejected[0]
        where = f"{first.file}:{first.line}: {first.field} {first.problem}"
        said = f"{count} lines of {found.folder} are left out, the first {where}"
        if not taken:
            raise FolderError(f"no event of the log can be used: {said}")
        if said not in notes:  # a log is read several times
            notes.append(said)
            log.warning("%s; `liverank data check %s` says more", said, found.folder)


def folder_records(found: FolderLog, on_reject: OnReject, report: Report = lambda _: None) -> Iterator[LogRecord]:
    """Items, users, then lists and events by time; of one time lists come first. A user's times strictly increase.

    Args:
        found: the folder.
        on_reject: is told of each line that makes no record.
        report: called with how far reading and sorting are.
    """
    schema = found.config.schema
    for file in found.of("items"):
        yield from _records_of(file, found, on_reject, lambda cells, _: item_of(cells))
    for file in found.of("users"):
        yield from _records_of(file, found, on_reject, lambda cells, _: attributes_of(cells, schema))
    yield from arrivals(timed_records(found, on_reject, report))


def timed_records(
    found: FolderLog, on_reject: OnReject, report: Report = lambda _: None
) -> Iterator[Interaction | CandidateList]:
    """Lists and events by (time, lists first, row), each with the time that the log gives it."""
    return by_time(_with_times(found, on_reject, report))


def logged_records(
    found: FolderLog, on_reject: OnReject, report: Report = lambda _: None
) -> Iterator[Interaction | CandidateList]:
    """Lists and events file by file, in the order of rows."""
    return counted_off(_logged(found, on_reject, report), "reading", report)


def _logged(found: FolderLog, on_reject: OnReject, report: Report) -> Iterator[Interaction | CandidateList]:
    schema = found.config.schema
    for file in found.of("candidates", "impressions"):
        if file.by_row:
            yield from _from_rows(file, found, on_reject, report)
        else:
            yield from _records_of(file, found, on_reject, lambda cells, name: list_of(cells, schema, name))
    for file in found.of("interactions"):
        yield from _records_of(file, found, on_reject, lambda cells, name: interaction_of(cells, schema, name))


def by_time(records: Iterable[Interaction | CandidateList]) -> Iterator[Interaction | CandidateList]:
    """Lists and events by (time, lists first, as given), in bounded memory."""
    encode = msgspec.msgpack.encode
    keyed = (
        Keyed((record.ts, int(isinstance(record, Interaction)), number), encode(record))
        for number, record in enumerate(records)
    )
    for pair in merge_sorted(keyed):
        yield _EVENT.decode(pair.body) if pair.key[1] else _LIST.decode(pair.body)


_LIST, _EVENT = msgspec.msgpack.Decoder(CandidateList), msgspec.msgpack.Decoder(Interaction)


def _with_times(found: FolderLog, on_reject: OnReject, report: Report) -> Iterator[Interaction | CandidateList]:
    for number, record in enumerate(logged_records(found, on_reject, report)):
        timed = record.ts is not None
        yield record if timed else msgspec.structs.replace(record, ts=START_WITHOUT_TIMES + 1000 * number)


def _records_of(
    file: LogFile, found: FolderLog, on_reject: OnReject, make: Callable[[Cells, str], Any]
) -> Iterator[Any]:
    data, absent = found.config.data, "ts" in file.sources and file.kind in _LISTS_FIRST
    stem = stem_of(file.path)
    for line in lines_of(file.path, data.delimiter):
        if line.fault is not None:
            on_reject(RejectedLine(file.kind, line.file, line.number, "line", line.fault))
            continue
        try:
            record = make(Cells(line.cells, file.sources, data), f"{stem}:{line.number}")
            if absent and record.ts is None:
                raise BadCell("ts", "is absent; other lines have one")
            yield record
        except BadCell as bad:
            on_reject(RejectedLine(file.kind, line.file, line.number, bad.field, bad.problem))


def _from_rows(
    file: LogFile, found: FolderLog, on_reject: OnReject, report: Report
) -> Iterator[Interaction | CandidateList]:
    """Lists whose candidates have a line each, wherever those stand in the file; in the order of their first lines."""
    rows = counted_off(_numbered_rows(file, found, on_reject), f"rows of {file.path.name}", report)
    decode = msgspec.msgpack.Decoder(ListedRow).decode
    keyed = (Keyed((row.user_id, row.request_id, row.row), msgspec.msgpack.encode(row)) for row in rows)
    lists = groupby(merge_sorted(keyed), key=lambda pair: pair.key[:2])
    whole = (_keyed_list([decode(pair.body) for pair in group]) for _, group in lists)
    for pair in merge_sorted(whole):
        try:
            shown, events = joined(msgspec.msgpack.decode(pair.body, type=list[ListedRow]))
        except BadCell as bad:
            on_reject(RejectedLine(file.kind, file.path.name, pair.key[0], bad.field, bad.problem))
            continue
        yield shown
        yield from events


def _keyed_list(rows: list[ListedRow]) -> Keyed:
    return Keyed((rows[0].row,), msgspec.msgpack.encode(rows))


def _numbered_rows(file: LogFile, found: FolderLog, on_reject: OnReject) -> Iterable[ListedRow]:
    schema = found.config.schema

    def make(cells: Cells, name: str) -> ListedRow:
        return listed_row(cells, schema, int(name.rpartition(":")[2]))

    return _records_of(file, found, on_reject, make)


assert set(_REQUIRED) == set(FIELDS) == set(MAPS)
