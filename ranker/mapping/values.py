"""Others' values as ours: text, numbers and times, or what is wrong with them."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ranker.contracts.errors import MappingError
from ranker.contracts.records import MAX_NUMBER

_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


class BadCell(Exception):
    """A cell that is not what its field wants."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


def text_of(value: Any) -> str:
    """A value as text; a whole number without a point, lists and tables as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)


def number_of(value: Any, field: str, decimal: str) -> float | None:
    """A finite number; None for nothing. True and false are 1 and 0, as text too.

    Raises:
        BadCell: it is none.
    """
    if value is None or value == "":
        return None
    text = _plain_number(value, decimal) if isinstance(value, str) else value
    try:
        number = float(text)
    except (TypeError, ValueError):
        if isinstance(value, str) and value.strip().lower() in _TRUTHS:
            return _TRUTHS[value.strip().lower()]
        comma = isinstance(value, str) and "," in value
        hint = '; for 1.234,5 set decimal = ","; thousands need no sign between them' if comma else ""
        raise BadCell(field, f"is {str(value)[:40]!r}; it must be a number{hint}") from None
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return None
    if abs(number) > MAX_NUMBER:
        raise BadCell(field, f"is {str(value)[:40]}; it must be a finite number, within ±{MAX_NUMBER}")
    return number


_TRUTHS = {"true": 1.0, "false": 0.0}
# Numbers whose thousands are parted beyond doubt: by a space or an apostrophe; by the sign that is not the decimal's,
# where there is a decimal sign too, or more than one group. `1,234` alone may be 1.234, so it is none of them.
_MARKS = " \u00a0\u202f\u2019'"
_GROUPED = {
    ".": re.compile(
        rf"[+-]?\d{{1,3}}(?:([{_MARKS}])\d{{3}}(?:\1\d{{3}})*(?:\.\d+)?|(?:,\d{{3}})+\.\d+|(?:,\d{{3}}){{2,}})"
    ),
    ",": re.compile(rf"[+-]?\d{{1,3}}(?:([{_MARKS}])\d{{3}}(?:\1\d{{3}})*(?:,\d+)?|(?:\.\d{{3}})+(?:,\d+)?)"),
}


def _plain_number(text: str, decimal: str) -> str:
    """A number as Python reads it; what is none stays, or becomes one that Python does not read."""
    text = text.strip()
    if decimal == "." and text.lstrip("+-").replace(".", "", 1).isdecimal():
        return text
    if _GROUPED[decimal].fullmatch(text):
        text = re.sub(rf"[{_MARKS}{',' if decimal == '.' else '.'}]", "", text)
    elif decimal == "," and "." in text:
        return f"{text} with a point"  # where decimals have a comma, 1.5 is no 15
    return text.replace("_", " ").replace(decimal, ".")  # Python reads 1_000, nobody else does


def milliseconds(value: Any, unit: str, zone: str, field: str) -> int:
    """Milliseconds since the epoch of a number in a unit, or of ISO 8601; a time that names no zone is in `zone`.

    Raises:
        BadCell: it is no time.
        MappingError: there is no such zone.
    """
    try:
        if isinstance(value, str):
            value = _number_or_time(value.strip())
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=_zone(zone))
            whole = aware.astimezone(UTC)
            return int(whole.replace(microsecond=0).timestamp()) * 1000 + whole.microsecond // 1000
        if isinstance(value, bool):
            raise TypeError
        return (
            value * 1000 // _PER_SECOND[unit]
            if isinstance(value, int)
            else round(float(value) * 1000 / _PER_SECOND[unit])
        )
    except (TypeError, ValueError, OverflowError):
        raise BadCell(
            field, f"is {str(value)[:40]!r}; it must be a number of {unit}, or ISO 8601 as 2024-05-01T12:30:00Z"
        ) from None


def _number_or_time(text: str) -> int | float | datetime:
    """The number or the ISO 8601 time that a text is. Raises ValueError."""
    if text.lstrip("+-").isdecimal():
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return time_of_text(text)


_DECIMAL = re.compile(r"[+-]?\d+\.?\d*([eE][+-]?\d+)?")


def time_of_text(text: str) -> datetime:
    """An ISO 8601 time, or one with `UTC` behind it, as databases write them. Raises ValueError."""
    text = text.strip()
    return datetime.fromisoformat(f"{text.removesuffix(' UTC')}Z" if text.endswith(" UTC") else text)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise MappingError(f'time_zone of [data] is {name!r}; give one as "Europe/Berlin" or "UTC"') from error
