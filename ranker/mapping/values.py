"""Others' values as ours: text, numbers and times, or what is wrong with them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ranker.contracts.errors import MappingError

_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


class BadCell(Exception):
    """A cell that is not what its field wants."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


def text_of(value: Any) -> str:
    """As text; a whole number without a point."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def number_of(value: Any, field: str, decimal: str) -> float | None:
    """A finite number; None for nothing.

    Raises:
        BadCell: it is none.
    """
    if value is None or value == "":
        return None
    text = value
    if isinstance(value, str) and decimal == ",":
        text = value.replace(".", "").replace(",", ".")
    try:
        number = float(text)
    except (TypeError, ValueError):
        hint = '; for 1.234,5 set decimal = ","' if isinstance(value, str) and "," in value else ""
        raise BadCell(field, f"is {str(value)[:40]!r}; it must be a number{hint}") from None
    if math.isinf(number):
        raise BadCell(field, f"is {value!r}; it must be a finite number")
    return None if math.isnan(number) else number


def milliseconds(value: Any, unit: str, zone: str, field: str) -> int:
    """Milliseconds since the epoch of a number in a unit, or of ISO 8601; a time that names no zone is in `zone`.

    Raises:
        BadCell: it is no time.
        MappingError: there is no such zone.
    """
    try:
        if isinstance(value, str) and not value.lstrip("+-").replace(".", "", 1).isdecimal():
            value = datetime.fromisoformat(value.strip())
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=_zone(zone))
            whole = aware.astimezone(UTC)
            return int(whole.replace(microsecond=0).timestamp()) * 1000 + whole.microsecond // 1000
        if isinstance(value, str) and "." not in value:
            value = int(value)
        return (
            value * 1000 // _PER_SECOND[unit]
            if isinstance(value, int)
            else round(float(value) * 1000 / _PER_SECOND[unit])
        )
    except (TypeError, ValueError, OverflowError):
        raise BadCell(
            field, f"is {str(value)[:40]!r}; it must be a number of {unit}, or ISO 8601 as 2024-05-01T12:30:00Z"
        ) from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise MappingError(f'time_zone of [data] is {name!r}; give one as "Europe/Berlin" or "UTC"') from error
