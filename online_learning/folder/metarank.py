"""Metarank's events as a log: its item, user, ranking and interaction events, one JSON object a line.

The form is that of Metarank's `event-schema`: https://docs.metarank.ai/reference/event-schema. Item and user events may
carry some of the fields, at any time: of each field the newest value holds. The file is read twice, for what there is
in it and for its records, in a memory of its items and users.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from online_learning.data.dataset import DataSet, DataSetError, LogRecord
from online_learning.folder.cells import LATEST_TS, MAX_ID
from online_learning.folder.description import RECALLED
from online_learning.folder.files import LogLine, form_of, lines_of
from online_learning.folder.guess import feature_named, looks_wanted
from online_learning.folder.samples import FEW_VALUES
from online_learning.recipe import Recipe
from ranker.contracts.decoding import EARLIEST_TS, Limits
from ranker.contracts.records import MAX_NUMBER, Candidate, CandidateList, Context, Interaction, Item, User
from ranker.contracts.schema import MAX_ACTIONS, Action, ContextField, FeatureSchema
from ranker.mapping.values import BadCell, milliseconds, text_of

_SHOWN = 5  # rejected lines that a report names
_SCORE = "relevancy"  # what Metarank calls the recall stage's score
_TITLES, _TEXTS, _CATEGORIES = ("title", "name"), ("text", "description", "body"), ("category", "genre", "categories")
_TAGS = ("tags", "genres", "keywords")
_LONGEST_TAG = 64


class _Field(Struct, frozen=True):
    name: str
    value: str | bool | float | list[str | float]


class _Listed(Struct, frozen=True):
    id: str | int
    fields: list[_Field] | None = None
    relevancy: float | None = None
    label: float | None = None


class _Event(Struct, frozen=True, kw_only=True, tag_field="event"):
    id: str | int
    timestamp: str | int | float
    fields: list[_Field] | None = None
    tenant: str | None = None


class _ItemEvent(_Event, frozen=True, kw_only=True, tag="item"):
    item: str | int


class _UserEvent(_Event, frozen=True, kw_only=True, tag="user"):
    user: str | int


class _RankingEvent(_Event, frozen=True, kw_only=True, tag="ranking"):
    items: list[_Listed]
    user: str | int | None = None
    session: str | int | None = None


class _InteractionEvent(_Event, frozen=True, kw_only=True, tag="interaction"):
    item: str | int
    type: str
    ranking: str | int | None = None
    user: str | int | None = None
    session: str | int | None = None


_AnyEvent = _ItemEvent | _UserEvent | _RankingEvent | _InteractionEvent
_Known = dict[str, dict[str, tuple[int, Any]]]  # id -> field -> (when it was told, value)


def metarank(path: Path) -> DataSet:
    """A file of Metarank's events, or a folder of such files, as a data set; its notes say what is left out.

    Raises:
        DataSetError: there is no such file, or no interaction in it.
        FolderError: a file is not of JSON lines.
    """
    files = sorted(one for one in path.iterdir() if form_of(one) == ".jsonl") if path.is_dir() else [path]
    if not files or not all(one.exists() for one in files):
        raise DataSetError(f"{path} holds no events; give a .jsonl file, packed or not, or a folder of them")
    log = _MetarankLog(files)
    log.look()
    if not log.actions:
        why = f"; {log.rejected_first[0]}" if log.rejected_first else ""
        raise DataSetError(f"{path} has no interaction event that can be used, so there is nothing to learn from{why}")
    lists = log.rankings > 0
    return DataSet(
        name="metarank",
        schema=log.schema(),
        records=lambda _: log.records(),
        source="",
        lists=lists,
        recalled=0 if lists else RECALLED,
        recipe=Recipe() if lists else Recipe(neighbours=64),
        notes=tuple(log.notes()),
    )


class _Moment:
    """What the first reading says of a field of rankings, users and interactions."""

    def __init__(self) -> None:
        self.numbers, self.of_lists = True, False
        self.values: set[str] = set()  # no more than tell that they are many

    def see(self, value: Any, of_lists: bool) -> None:
        self.numbers, self.of_lists = self.numbers and _is_number(value), self.of_lists or of_lists
        if len(self.values) <= FEW_VALUES:
            self.values.add(text_of(value))

    def declared(self, name: str) -> ContextField | None:
        """A number, or one-hot over its values; too many texts, or one value, say nothing that could be learned."""
        if not self.of_lists or len(self.values) < 2 or (len(self.values) > FEW_VALUES and not self.numbers):
            return None
        return ContextField(name=name, values=() if self.numbers else tuple(sorted(self.values)))


class _MetarankLog:
    """What a first reading gathers, and the records of a second one."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.actions, self.rankings, self.rejected = Counter[str](), 0, 0
        self.rejected_first: list[str] = []
        self._items: _Known = {}
        self._users: _Known = {}
        self._features: dict[str, bool] = {}  # name -> whether none is below 0
        self._moments: dict[str, _Moment] = defaultdict(_Moment)
        self._told: dict[str, None] = {}  # fields that are left out, in order
        self._labels, self._tenants = 0, set[str]()

    def look(self) -> None:
        """The first reading."""
        for file in self.files:
            for line in lines_of(file):
                try:
                    self._take(_event_of(line))
                except BadCell as wrong:
                    self.rejected += 1
                    if len(self.rejected_first) < _SHOWN:
                        self.rejected_first.append(f"{line.file}:{line.number}: {wrong}")

    def records(self) -> Iterator[LogRecord]:
        """Items and users, then lists and interactions in the order of the files."""
        for item_id, fields in self._items.items():
            yield _item(item_id, {name: value for name, (_, value) in fields.items()})
        for user_id, fields in self._users.items():
            yield User(
                user_id=user_id, attributes=self._context({name: one for name, (_, one) in fields.items()}) or {}
            )
        for file in self.files:
            for line in lines_of(file):
                try:
                    record = self._record(_event_of(line))
                except BadCell:
                    continue  # the first reading told of it
                if record is not None:
                    yield record

    def schema(self) -> FeatureSchema:
        """Actions by count, numbers of candidates and items, and what rankings and users say in few values."""
        positive = {name for name in self.actions if looks_wanted(name)} or {next(iter(self._kept()))}
        numeric = dict.fromkeys(
            name for fields in self._items.values() for name, (_, value) in fields.items() if _is_number(value)
        )
        return FeatureSchema(
            actions=tuple(
                Action(name=name, positive=name in positive) for name in dict.fromkeys(("view", "click", *self._kept()))
            ),
            candidate_features=tuple(feature_named(name, above) for name, above in self._features.items()),
            context=tuple(field for name, seen in self._moments.items() if (field := seen.declared(name)) is not None),
            item_numeric=tuple(numeric),
        )

    def notes(self) -> Iterator[str]:
        """What a report must say."""
        if self.rejected:
            yield f"{self.rejected} lines are left out, first: {'; '.join(self.rejected_first)}"
        if self._told:
            yield f"fields that no record has room for are left out: {', '.join(self._told)}"
        if dropped := sorted(set(self.actions) - set(self._kept())):
            yield f"types beyond the {MAX_ACTIONS} actions of a schema are left out: {', '.join(dropped)}"
        if self._labels:
            yield f"{self._labels} labels of rankings are left out: a judgement is no event of a user"
        if len(self._tenants) > 1:
            yield f"events of {len(self._tenants)} tenants are one log: convert each by itself where their ids clash"

    def _kept(self) -> list[str]:
        beside = [name for name, _ in self.actions.most_common() if name not in ("view", "click")]
        own = [name for name in ("click", "view") if name in self.actions]
        return [*own, *beside[: MAX_ACTIONS - 2]]

    def _take(self, event: _AnyEvent) -> None:
        ts = _time(event)
        match event:
            case _ItemEvent():
                _update(self._items, _id(event.item, "item"), event, ts)
            case _UserEvent():
                _update(self._users, _id(event.user, "user"), event, ts)
                self._see(event.fields, of_lists=True)
            case _RankingEvent():
                _list(event)
                self.rankings += 1
                self._see(event.fields, of_lists=True)
                for listed in event.items:
                    self._labels += listed.label is not None
                    self._look_at_candidate(listed)
            case _InteractionEvent():
                _interaction(event)
                self.actions[event.type] += 1
                self._see(event.fields, of_lists=False)
        if event.tenant is not None:
            self._tenants.add(event.tenant)

    def _see(self, fields: list[_Field] | None, of_lists: bool) -> None:
        for field in fields or ():
            if isinstance(field.value, list):
                self._told[field.name] = None
            else:
                self._moments[field.name].see(field.value, of_lists)

    def _look_at_candidate(self, listed: _Listed) -> None:
        score, features = _numbers(listed)
        if score is not None:
            self._features["score"] = self._features.get("score", True) and score >= 0
        for name, value in features.items():
            self._features[name] = self._features.get(name, True) and value >= 0
        self._told |= {field.name: None for field in listed.fields or () if not _is_number(field.value)}

    def _record(self, event: _AnyEvent) -> LogRecord | None:
        fields = {field.name: field.value for field in event.fields or ()}
        if isinstance(event, _RankingEvent):
            return msgspec.structs.replace(_list(event), context=self._context(fields))
        if isinstance(event, _InteractionEvent) and event.type in self._kept():
            value = fields.pop("value", None)
            worth = float(value) if isinstance(value, bool | int | float) else None
            return msgspec.structs.replace(_interaction(event), value=worth, context=self._context(fields))
        return None

    def _context(self, fields: Mapping[str, Any]) -> Context | None:
        """Fields with one value: as numbers, where they are numbers wherever they stand."""
        return {
            name: float(value) if self._moments[name].numbers else text_of(value)
            for name, value in fields.items()
            if not isinstance(value, list)
        } or None


def _event_of(line: LogLine) -> _AnyEvent:
    """A line's event.

    Raises:
        BadCell: it is none; names the field.
    """
    if line.fault is not None:
        raise BadCell("the line", line.fault.removeprefix("it "))
    cells = {**line.cells, "event": "item"} if line.cells.get("event") == "metadata" else line.cells
    try:
        event = msgspec.convert(cells, _AnyEvent)
    except msgspec.ValidationError as error:
        raise BadCell("the event", f"does not have Metarank's form: {error}") from error
    for field in event.fields or ():
        _checked(field)
    checked: _AnyEvent = event
    return checked


def _checked(field: _Field) -> None:
    value = field.value
    if isinstance(value, list) and len({isinstance(one, str) for one in value}) > 1:
        raise BadCell(f"fields.{field.name}", "has texts and numbers; a list holds one of them")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float | int) and abs(number) > MAX_NUMBER:
            raise BadCell(f"fields.{field.name}", f"is {number}; numbers lie within ±{MAX_NUMBER}")


def _time(event: _AnyEvent) -> int:
    ts = milliseconds(event.timestamp, "ms", "UTC", "timestamp")
    if not EARLIEST_TS <= ts <= LATEST_TS:
        where = "before the year 1990" if ts < EARLIEST_TS else "after the year 2200"
        raise BadCell("timestamp", f"is {event.timestamp!r}, {where}; it must be milliseconds or ISO 8601")
    return ts


def _id(value: str | int, field: str) -> str:
    text = text_of(value)
    if not 1 <= len(text) <= MAX_ID:
        raise BadCell(field, f"has {len(text)} characters; an id has 1 to {MAX_ID}")
    return text


def _who(user: str | int | None, session: str | int | None) -> str:
    """The user, else the session, which stands for one."""
    if user not in (None, ""):
        return _id(user or 0, "user")
    if session not in (None, ""):
        return _id(session or 0, "session")
    raise BadCell("user", "is absent, and so is session; one of them must be there")


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _update(known: _Known, name: str, event: _ItemEvent | _UserEvent, ts: int) -> None:
    """Of each field the newest value holds, and of two at one time the later one in the file."""
    fields = known.setdefault(name, {})
    for field in event.fields or ():
        if field.name not in fields or ts >= fields[field.name][0]:
            fields[field.name] = (ts, field.value)


def _numbers(listed: _Listed) -> tuple[float | None, dict[str, float]]:
    """A candidate's score, and its other numbers."""
    features = {}
    for field in listed.fields or ():
        _checked(field)
        if isinstance(field.value, bool | int | float):
            features[field.name] = float(field.value)
    score = features.pop(_SCORE, listed.relevancy)
    return score, features


def _list(event: _RankingEvent) -> CandidateList:
    """The list, without its context."""
    most = Limits().max_candidates
    if not 1 <= len(event.items) <= most:
        raise BadCell("items", f"has {len(event.items)} entries; a list has 1 to {most}")
    items = []
    for listed in event.items:
        score, features = _numbers(listed)
        items.append(Candidate(item_id=_id(listed.id, "items.id"), score=score, features=dict(features) or None))
    return CandidateList(
        request_id=_id(event.id, "id"), user_id=_who(event.user, event.session), items=items, ts=_time(event)
    )


def _interaction(event: _InteractionEvent) -> Interaction:
    """The event, without its value and context."""
    return Interaction(
        user_id=_who(event.user, event.session),
        item_id=_id(event.item, "item"),
        action=event.type,
        event_id=_id(event.id, "id"),
        ts=_time(event),
        request_id=None if event.ranking in (None, "") else _id(event.ranking or 0, "ranking"),
    )


def _item(item_id: str, fields: dict[str, Any]) -> Item:
    """Texts by their usual names; others and lists become tags that name their field, long ones part of the text."""
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    lists = {name: [text_of(one) for one in value] for name, value in fields.items() if isinstance(value, list)}
    title, text, category = (_taken(texts, names) for names in (_TITLES, _TEXTS, _CATEGORIES))
    if category is None and (several := _taken(lists, _CATEGORIES)):
        category, *tags = several
    else:
        tags = []
    for name in _TAGS:
        tags += lists.pop(name, [])
    tags += [f"{name}:{one}" for name, several in lists.items() for one in several]
    tags += [f"{name}:{value}" for name, value in texts.items() if len(value) <= _LONGEST_TAG]
    long = [value for value in texts.values() if len(value) > _LONGEST_TAG]
    text = ". ".join([text, *long] if text else long) or None
    numeric = {name: float(value) for name, value in fields.items() if _is_number(value)}
    return Item(
        item_id=item_id, title=title, text=text, category=category, tags=tags or None, numeric=numeric or None
    )  # fmt: skip


def _taken(found: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Take the first of these fields out that is there."""
    return next((found.pop(name) for name in names if name in found), None)
