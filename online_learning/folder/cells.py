"""Cells as values: a file's text, number or time as the record's field wants it, or what is wrong with it."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Any

from online_learning.folder.description import FIELDS, MAPS, Description, FolderError
from ranker.contracts.decoding import EARLIEST_TS, seconds_for_milliseconds
from ranker.contracts.records import MAX_INTEGER, Context
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.sources import Source, nearest
from ranker.mapping.values import BadCell, milliseconds, number_of, text_of

MAX_ID = 256
#: What lies after the year 2200 is of a finer unit than it is taken for, or a day written as one number.
LATEST_TS = 7_258_118_400_000
#: What stands in a cell of which nothing is known; the words are those of SQL dumps.
_ABSENT = ("", "NULL", "\\N")
_FLAGS = {"true": True, "t": True, "yes": True, "y": True, "false": False, "f": False, "no": False, "n": False}


def sources_of(kind: str, columns: list[str], data: Description, file: str, schema: FeatureSchema) -> dict[str, Source]:
    """Where each field of one file comes from: what `[data.KIND]` names, what `[data]` names, a column of its own name.

    Raises:
        FolderError: `[data.KIND]` names a column that the file has not, or one for an action that is not declared.
    """
    found = {field: Source(column=field) for field in FIELDS[kind] if field in columns}
    for group in MAPS[kind]:
        prefix = f"{group}."
        found |= {column: Source(column=column) for column in columns if column.startswith(prefix)}
    if kind == "impressions":
        found |= {f"actions.{name}": Source(column=name) for name in schema.valid_actions if name in columns}
    for field, source in data.shared.items():
        named = columns if source.value is None else [field]
        if _fits(field, kind) and (source.column or field) in named:
            found[field] = source
    for field, source in data.own.get(kind, {}).items():
        name = source.column
        if name is not None and name not in columns:
            raise FolderError(
                f"[data.{kind}] takes {field} from the column {name!r}, which {file} has not; {nearest(name, columns)}"
            )
        # A table without a column says how the column of the field's own name is read.
        if name is None and source.value is None and field not in columns:
            raise FolderError(
                f"[data.{kind}] names no column for {field}, and {file} has none of that name; "
                f"{nearest(field, columns)}"
            )
        group, _, action = field.partition(".")
        if group == "actions" and action not in schema.valid_actions:
            raise FolderError(
                f"[data.{kind}] names a column for {field}, and [schema] declares no such action: declare it as "
                f"[[schema.actions]]; {nearest(action, schema.valid_actions)}"
            )
        found[field] = source
    return found


def _fits(field: str, kind: str) -> bool:
    return field in FIELDS[kind] or field.partition(".")[0] in MAPS[kind]


class Cells:
    """The cells of one line by field. Every reader raises BadCell where the cell is not what is asked for."""

    def __init__(self, cells: Mapping[str, Any], sources: Mapping[str, Source], data: Description) -> None:
        self.cells, self.sources, self.data = cells, sources, data

    def raw(self, field: str) -> Any:
        """What stands there; None where nothing does."""
        source = self.sources.get(field)
        if source is None:
            return None
        value = source.value if source.value is not None else self.cells.get(source.column or field)
        if isinstance(value, bytes):
            value = _decoded(value, field)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, str) and value in _ABSENT:
            return None
        return source.map.get(text_of(value), value) if source.map else value

    def text(self, field: str) -> str | None:
        """As text; a whole number without a point."""
        value = self.raw(field)
        return None if value is None else text_of(value)

    def required(self, field: str) -> str:
        """As text that must be there."""
        value = self.text(field)
        if value is None:
            raise BadCell(field, "is absent; it must be there")
        return value

    def id(self, field: str) -> str | None:
        """An id, as long as one may be."""
        given, value = self.raw(field), self.text(field)
        if isinstance(given, dict | list):
            raise BadCell(field, f"is {text_of(given)[:40]}; it must be a text or a number")
        if value is not None and len(value) > MAX_ID:
            raise BadCell(field, f"has {len(value)} characters; at most {MAX_ID} are possible")
        return value

    def required_id(self, field: str) -> str:
        """An id that must be there."""
        self.required(field)
        return self.id(field) or ""

    def number(self, field: str) -> float | None:
        """As a finite number."""
        return number_of(self.raw(field), field, self.data.decimal)

    def whole(self, field: str, least: int, most: int) -> int | None:
        """As a whole number within bounds."""
        value = self.number(field)
        if value is None:
            return None
        if not value.is_integer() or not least <= value <= most:
            raise BadCell(field, f"is {value:g}; it must be a whole number from {least} to {most}")
        return int(value)

    def moment(self, field: str) -> int | None:
        """As milliseconds since the epoch, UTC."""
        value = self.raw(field)
        if value is None:
            return None
        unit = self.sources[field].time or self.data.time
        ts = milliseconds(value, unit, self.data.time_zone, field)
        if field == "published_at" and (ts in (0, -1) or text_of(value).strip() == "-1"):
            return None  # as everywhere where that is how a time is written that is not known
        wrong = None
        if ts > LATEST_TS:
            wrong = "after the year 2200"
        elif field == "ts" and ts < EARLIEST_TS:  # a film may well be older
            wrong = "before the year 1990"
        elif field == "published_at" and seconds_for_milliseconds(ts) and not _in_words(value):
            wrong = "within seven weeks of 1970"
        if wrong is not None or abs(ts) > MAX_INTEGER:
            raise BadCell(
                field,
                f"is {text_of(value)[:40]!r} in {unit}, {wrong or 'too far away'}; set time to the unit that it has: "
                "s, ms, us or ns",
            )
        return ts

    def flag(self, field: str) -> bool:
        """A flag, or whether a count is above 0; absent means no."""
        value = self.raw(field)
        if isinstance(value, str) and value.strip().lower() in _FLAGS:
            return _FLAGS[value.strip().lower()]
        try:
            return (number_of(value, field, self.data.decimal) or 0.0) > 0
        except BadCell:
            raise BadCell(field, f"is {str(value)[:40]!r}; it must be true or false, yes or no, or a count") from None

    def parts(self, field: str, separator: str | None = None) -> list[Any] | None:
        """A list: as Parquet has it, as JSON, or text with a separator."""
        value = self.raw(field)
        if value is None or isinstance(value, list):
            return value
        text = text_of(value)
        separator = self.sources[field].separator or separator
        if separator:
            return [part.strip() for part in text.split(separator)]
        if not text.lstrip().startswith("["):
            raise BadCell(
                field,
                f"is {text[:40]!r}; it must be a JSON list, or [data] must name its separator: "
                f'{field} = {{ column = "{self.sources[field].column}", separator = "|" }}',
            )
        return _parsed_list(text, field)

    def group(self, name: str) -> list[str]:
        """The fields of a map that have a column, as `features.price`."""
        return [field for field in self.sources if field.startswith(f"{name}.")]

    def context(self, name: str, schema: FeatureSchema) -> Context | None:
        """The fields of a context: numbers and texts as the schema has them, others as they come."""
        declared = {field.name: field for field in schema.context}
        found: Context = {}
        for field in self.group(name):
            if (value := self.raw(field)) is None:
                continue
            key = field.partition(".")[2]
            number = isinstance(value, float | int) and not isinstance(value, bool)
            if (key in declared and not declared[key].values) or (number and key not in declared):
                value = number_of(value, field, self.data.decimal)
            elif key in declared or not isinstance(value, str | bool):
                value = text_of(value)
            found[key] = value
        return found or None


def _in_words(time: Any) -> bool:
    """Whether a time is none that is a number: a day, or ISO 8601."""
    return isinstance(time, date) or (isinstance(time, str) and "-" in time.strip()[1:])


def _decoded(value: bytes, field: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadCell(field, f"is {value[:20]!r}; it must be text in UTF-8") from None


def _parsed_list(text: str, field: str) -> list[Any]:
    """A list as JSON, or as Python, that writes a list into a CSV with single quotes. `nan` is an absent part."""
    for parse in (_json_list, _python_list):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list):
            return parsed
    raise BadCell(field, f'is {text[:40]!r}; it must be a JSON list, its parts between commas, as ["a", "b"]')


_CONSTANTS = {"NaN": None, "nan": None, "Infinity": math.inf, "-Infinity": -math.inf, "inf": math.inf}
#: An empty text, or two texts side by side as numpy writes them, which Python would join into one.
_TWO_QUOTES = re.compile(r"""['"]\s*['"]""")


def _json_list(text: str) -> Any:
    return json.loads(text, parse_constant=_CONSTANTS.__getitem__)


def _python_list(text: str) -> Any:
    """Raises ValueError or SyntaxError: it is none."""
    if _TWO_QUOTES.search(text) and _joins_texts(text):
        raise ValueError("two texts side by side")
    tree = ast.parse(text.strip(), mode="eval")
    return ast.literal_eval(_Constants().visit(tree) if "nan" in text or "inf" in text else tree)


def _joins_texts(text: str) -> bool:
    try:
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except tokenize.TokenError as error:
        raise ValueError(str(error)) from error
    told = [kind for kind in kinds if kind != tokenize.NL]
    return any(one == other == tokenize.STRING for one, other in pairwise(told))


class _Constants(ast.NodeTransformer):
    """`nan` and `inf` as values: Python writes numbers so, and reads them as names."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node
