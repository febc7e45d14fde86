"""Where a field comes from: one notation for columns of files (`[data]`) and fields of messages (`[topics]`)."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ranker.contracts.errors import MappingError

TimeUnit = Literal["s", "ms", "us", "ns"]
_WANTED = (
    'give a column\'s name, or a table as { column = "type", map = { addtocart = "cart" } } or { value = "click" }'
)


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a field comes from: a column, or the same value on every line; and how its text is read."""

    column: str | None = None
    value: str | float | bool | None = None
    map: dict[str, str] = {}  # what the file calls it -> what it is here; what is not named stays
    time: TimeUnit | None = None
    separator: str | None = None  # of the parts of a list


def nearest(given: str, valid: Iterable[str]) -> str:
    """What was probably meant, and all that is valid, as the end of an error."""
    names = list(valid)
    near = difflib.get_close_matches(given, names, 1)
    return (f"the nearest is {near[0]!r}, and " if near else "") + f"known are {', '.join(names)}"


def refuse_unknown(table: Mapping[str, Any], valid: Iterable[str], name: str, where: str) -> None:
    """Nothing, where somebody reads every key of a table.

    Raises:
        MappingError: names the first key that nobody reads, and the nearest that somebody does.
    """
    names = list(valid)
    for key in table:
        if key not in names:
            raise MappingError(f"{where}: nobody reads {key!r} of [{name}]; {nearest(key, names)}")


def sources_in(
    table: Mapping[str, Any], maps: Collection[str], name: str, where: str, whole: bool = False
) -> dict[str, Source]:
    """The fields that a table maps; those of several columns by `features.price`.

    Args:
        table: as TOML has it.
        maps: fields that hold several columns, each under a name of its own.
        name: the table's, for errors.
        where: the file's name, for errors.
        whole: whether a column may hold all of such a field, as an object of JSON does.

    Raises:
        MappingError: an entry that says nothing, or two things.
    """
    found: dict[str, Source] = {}
    for field, given in table.items():
        if field not in maps or (whole and isinstance(given, str)):
            found[field] = source_of(given, f"{field} of [{name}]", where)
        elif isinstance(given, list) and all(isinstance(column, str) for column in given):
            found |= {f"{field}.{column}": Source(column=column) for column in given}
        elif isinstance(given, dict):
            found |= {
                f"{field}.{key}": source_of(inner, f"{field}.{key} of [{name}]", where) for key, inner in given.items()
            }
        else:
            raise MappingError(
                f'{where}: {field} of [{name}] is {given!r}; give a list of columns, or {field}.NAME = "COLUMN"'
            )
    return found


def source_of(given: Any, key: str, where: str) -> Source:
    """One field's source; `key` and `where` name it in errors.

    Raises:
        MappingError: it says nothing, or two things.
    """
    if isinstance(given, str):
        return Source(column=given)
    try:
        source = msgspec.convert(given, Source)
    except msgspec.ValidationError as error:
        raise MappingError(f"{where}: {key}: {error}; {_WANTED}") from error
    if (source.column is not None) and (source.value is not None):
        raise MappingError(f"{where}: {key} has a column and a value; {_WANTED}")
    return source
