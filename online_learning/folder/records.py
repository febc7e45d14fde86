"""Lines as the records of the topics, by kind of file; a line that makes none says why."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from online_learning.folder.cells import MAX_ID, Cells
from ranker.contracts.decoding import Limits
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import (
    MAX_WORDS_LENGTH,
    Candidate,
    CandidateList,
    Context,
    FeatureValue,
    Interaction,
    Item,
    User,
)
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.values import BadCell, number_of, text_of


class RejectedLine(NamedTuple):
    """A line that is left out: where it stands, the field, and what would be right."""

    kind: str
    file: str
    line: int
    field: str
    problem: str


class ListedRow(Struct, frozen=True, array_like=True):
    """One line of a list that has a line for each candidate, and what was done with the item there."""

    row: int
    ts: int | None
    user_id: str
    request_id: str
    position: float | None
    k: int | None
    candidate: Candidate
    context: Context | None
    actions: tuple[str, ...] = ()


def interaction_of(cells: Cells, schema: FeatureSchema, name: str) -> Interaction:
    """An event; `name` is its id where the line has none.

    Raises:
        BadCell: a field is absent, or not what it must be.
    """
    action, text = cells.required("action"), cells.text("text")
    item_id = cells.id("item_id") or None
    if item_id is None and not (text or "").strip():
        raise BadCell("item_id", "is absent; it must be there, or a text")
    if item_id is None and len(text or "") > MAX_WORDS_LENGTH:
        raise BadCell("text", f"has {len(text or '')} characters; without an item_id at most {MAX_WORDS_LENGTH}")
    try:
        (schema.word_action_number if item_id is None else schema.action_number)(action)
    except InvalidRecord as error:
        raise BadCell(
            "action",
            f"is {action[:40]!r}; valid are {', '.join(schema.valid_actions)}: declare it in [schema], or map it",
        ) from error
    return Interaction(
        user_id=user_of(cells),
        item_id=item_id,
        action=action,
        event_id=cells.id("event_id") or name,
        ts=cells.moment("ts"),
        request_id=cells.id("request_id"),
        position=cells.whole("position", 0, 32767),
        value=cells.number("value"),
        text=text,
        context=cells.context("context", schema),
    )


def user_of(cells: Cells) -> str:
    """The user, or the session where nobody knows the user."""
    user = cells.id("user_id") or cells.id("session_id")
    if user is None:
        raise BadCell("user_id", "is absent; it must be there, or a session_id")
    return user


def list_of(cells: Cells, schema: FeatureSchema, name: str) -> CandidateList:
    """A list that stands on one line.

    Raises:
        BadCell: as for `interaction_of`; also where a feature has not one value an item.
    """
    parts = cells.parts("items")
    most = Limits().max_candidates
    if not parts or len(parts) > most:
        raise BadCell("items", f"has {len(parts or ())} items; it must have 1 to {most}")
    separator = cells.sources["items"].separator
    columns = {field: _column(cells, field, len(parts), separator) for field in ("score", *cells.group("features"))}
    return CandidateList(
        request_id=cells.id("request_id") or name,
        user_id=user_of(cells),
        items=[
            _candidate(part, {field: values[at] for field, values in columns.items() if values})
            for at, part in enumerate(parts)
        ],
        ts=cells.moment("ts"),
        context=cells.context("context", schema),
        k=cells.whole("k", 1, (1 << 31) - 1),
    )


def _column(cells: Cells, field: str, count: int, separator: str | None) -> list[float | None]:
    values = cells.parts(field, separator)
    if values is None:
        return []
    if len(values) != count:
        raise BadCell(field, f"has {len(values)} values; the list has {count} items")
    return [number_of(value, field, cells.data.decimal) for value in values]


def _candidate(part: Any, numbers: dict[str, float | None]) -> Candidate:
    if isinstance(part, dict):
        try:
            return msgspec.convert(part, Candidate, strict=False)
        except msgspec.ValidationError as error:
            raise BadCell(
                "items", f"holds {str(part)[:60]!r} ({error}); an item is an id, or has an item_id"
            ) from error
    absent = part is None or isinstance(part, list) or (isinstance(part, float) and math.isnan(part))
    item_id = "" if absent else text_of(part)
    if not 0 < len(item_id) <= MAX_ID:
        raise BadCell("items", f"holds {str(part)[:40]!r}; an id has 1 to {MAX_ID} characters")
    return _with_numbers(item_id, numbers)


def _with_numbers(item_id: str, numbers: dict[str, float | None]) -> Candidate:
    features: dict[str, FeatureValue] = {
        field.partition(".")[2]: value for field, value in numbers.items() if value is not None and field != "score"
    }
    return Candidate(item_id=item_id, score=numbers.get("score"), features=features or None)


def listed_row(cells: Cells, schema: FeatureSchema, row: int) -> ListedRow:
    """A line of a list that has a line for each candidate.

    Raises:
        BadCell: as for `interaction_of`.
    """
    user, ts = user_of(cells), cells.moment("ts")
    numbers = {field: cells.number(field) for field in ("score", *cells.group("features"))}
    return ListedRow(
        row=row,
        ts=ts,
        user_id=user,
        request_id=cells.id("request_id") or (f"{user}@{ts}"[-MAX_ID:] if ts is not None else user),
        position=cells.number("position"),
        k=cells.whole("k", 1, (1 << 31) - 1),
        candidate=_with_numbers(cells.required_id("item_id"), numbers),
        context=cells.context("context", schema),
        actions=tuple(name for name in schema.valid_actions if cells.flag(f"actions.{name}")),
    )


def joined(rows: Iterable[ListedRow]) -> tuple[CandidateList, list[Interaction]]:
    """The lines of one list, ordered by position, as the list and what was done with its items.

    Raises:
        BadCell: it has more items than a list may have.
    """
    ordered = sorted(rows, key=lambda row: (row.position is None, row.position or 0.0, row.row))
    first, most = ordered[0], Limits().max_candidates
    if len(ordered) > most:
        raise BadCell("items", f"of the list {first.request_id!r} are {len(ordered)}; it must have 1 to {most}")
    times = [row.ts for row in ordered if row.ts is not None]
    ts = min(times) if times else None
    shown = CandidateList(
        request_id=first.request_id, user_id=first.user_id, items=[row.candidate for row in ordered], ts=ts,
        context=first.context, k=first.k,
    )  # fmt: skip
    events = [
        Interaction(
            user_id=row.user_id, item_id=row.candidate.item_id, action=action, ts=ts, request_id=row.request_id,
            event_id=f"{row.request_id}:{row.row}:{action}"[-MAX_ID:], position=place,
        )
        for place, row in enumerate(ordered)
        for action in row.actions
    ]  # fmt: skip
    return shown, events


def item_of(cells: Cells) -> Item:
    """An item of the catalogue.

    Raises:
        BadCell: as for `interaction_of`.
    """
    numbers = {field.partition(".")[2]: cells.number(field) for field in cells.group("numeric")}
    tags = cells.parts("tags")
    return Item(
        item_id=cells.required_id("item_id"),
        title=cells.text("title"),
        text=cells.text("text"),
        category=cells.text("category"),
        tags=[text_of(tag) for tag in tags if tag is not None] if tags else None,
        numeric={name: value for name, value in numbers.items() if value is not None} or None,
        published_at=cells.moment("published_at"),
    )


def attributes_of(cells: Cells, schema: FeatureSchema) -> User:
    """A user's attributes.

    Raises:
        BadCell: as for `interaction_of`.
    """
    return User(user_id=cells.required_id("user_id"), attributes=cells.context("attributes", schema) or {})
