"""Values as producers write them whose language has no absent field, no integer, or no empty object: one rule.

A record that is written as declared is decoded as it stands. Where it is not, `as_meant` reads it by this rule, and
what it gives is decoded again; `widened` says the rule in the JSON Schema of a record:

* In a field that may be absent, null and an empty text are absent. So are 0 and -1 where the field cannot be that.
* A number may be a text ("20", as protobuf writes integers of 64 bits), a whole one may end in .0, and true and false
  are 1 and 0 where a fraction would be allowed.
* An empty list is an empty object, as PHP writes one. In a list of texts, null and empty ones are left out.
* A candidate's score or feature, and a field of a context or of attributes, that is still none of its kinds costs
  itself alone: it is left out, and counted.
* Ids and texts are strings: two readers write one number in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct, inspect

#: Numbers as text: JSON's own grammar of a number within float32, and of one that is whole.
_NUMBER = r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?([eE](-[0-9]{1,2}|\+?1?[0-9]))?$"
_INTEGER = r"^-?(0|[1-9][0-9]{0,18})(\.0+)?$"
_number, _integer = re.compile(_NUMBER), re.compile(_INTEGER)

_PLAIN: dict[type[inspect.Type], type] = {
    inspect.NoneType: type(None), inspect.BoolType: bool, inspect.StrType: str,
}  # fmt: skip

#: Hears the name of a value that is left out because it is no value.
LeftOut = Callable[[str], None]


def as_meant(record: type[Struct], value: object, left_out: LeftOut) -> object:
    """The JSON of a record with each value as it was meant; what cannot be meant stays, for the decoder to refuse."""
    return _meant(_type_of(record), value, left_out)


@lru_cache
def _type_of(record: type[Struct]) -> inspect.Type:
    return inspect.type_info(record)


def _meant(kind: inspect.Type, value: Any, left_out: LeftOut) -> Any:
    match _bare(kind):
        case inspect.StructType() as record:
            value = _object(record, value, left_out)
        case inspect.DictType() as fields:
            value = _fields(fields, value, left_out)
        case inspect.ListType(item_type=inspect.StrType()) if isinstance(value, list):
            value = [item for item in value if item not in (None, "")]
        case inspect.ListType(item_type=item_type) if isinstance(value, list):
            value = [_meant(item_type, item, left_out) for item in value]
        case inspect.UnionType(types=kinds):
            value = _one_of(kinds, value, left_out)
        case inspect.IntType():
            value = _whole(value)
        case inspect.FloatType():
            value = _fraction(value)
    return value


def _object(kind: inspect.StructType, value: Any, left_out: LeftOut) -> Any:
    if not isinstance(value, dict):
        return value
    known = {}
    for field in kind.fields:
        if field.encode_name not in value:
            continue
        meant = _meant(field.type, value[field.encode_name], left_out)
        if not field.required and _absent(field.type, meant):
            continue
        if field.encode_name == "score" and not _fits(field.type, meant):
            left_out("score")
            continue
        known[field.encode_name] = meant
    return known


def _fields(kind: inspect.DictType, value: Any, left_out: LeftOut) -> Any:
    """A value that may be null may also be left out; one that must be a number may not."""
    if not isinstance(value, dict):
        return {} if value == [] else value
    known = {}
    for name, given in value.items():
        meant = _meant(kind.value_type, given, left_out)
        if meant is None or (meant == "" and not _takes(kind.value_type, inspect.StrType)):
            continue
        if _takes(kind.value_type, inspect.NoneType) and not _fits(kind.value_type, meant):
            left_out(name)
            continue
        known[name] = meant
    return known


def _one_of(kinds: tuple[inspect.Type, ...], value: Any, left_out: LeftOut) -> Any:
    """The first reading that fits; a text or a boolean stays one where the field takes it."""
    for kind in kinds:
        if _fits(kind, value):
            return value
    for kind in kinds:
        meant = _meant(kind, value, left_out)
        if meant is not value:
            return meant
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str) and _integer.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _fraction(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and _number.fullmatch(value)):
        return float(value)
    return value


def _absent(kind: inspect.Type, value: Any) -> bool:
    """Whether this value of a field that may be absent says that it is."""
    if type(value) is int and value in (0, -1):
        return _takes(kind, inspect.IntType) and not _fits(kind, value)
    return value is None or value == ""


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    kind = _bare(kind)
    yield from map(_bare, kind.types) if isinstance(kind, inspect.UnionType) else (kind,)


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _takes(kind: inspect.Type, wanted: type[inspect.Type]) -> bool:
    return any(isinstance(one, wanted) for one in _alternatives(kind))


def _fits(kind: inspect.Type, value: Any) -> bool:
    """Whether a plain value is of this type and within its bounds."""
    return any(_is(one, value) for one in _alternatives(kind))


def _is(kind: inspect.Type, value: Any) -> bool:
    match kind:
        case inspect.NoneType() | inspect.BoolType() | inspect.StrType():
            return type(value) is _PLAIN[type(kind)]
        case inspect.IntType(ge=least, le=most) if type(value) is int:
            return (least is None or value >= least) and (most is None or value <= most)
        case inspect.FloatType(ge=least, le=most) if type(value) in (int, float):
            return (least is None or value >= least) and (most is None or value <= most)
    return False


def widened(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a record, or of one within a record, that takes what the rule takes."""
    required = schema.get("required", ())
    properties = {
        name: {} if name == "score" else _wide(value, optional=name not in required)
        for name, value in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _wide(schema: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """One field's schema with the further ways to write it."""
    notes: dict[str, Any] = {key: schema[key] for key in ("default", "description") if key in schema}
    bare = {key: value for key, value in schema.items() if key not in notes}
    alternatives: list[dict[str, Any]] = []
    for one in bare.get("anyOf", [bare]):
        alternatives += _ways(one)
    if optional:
        alternatives += [{"type": "null"}, {"const": ""}]
        alternatives += [{"enum": [0, -1]} for one in alternatives if one.get("type") == "integer"][:1]
    distinct = [one for at, one in enumerate(alternatives) if one not in alternatives[:at]]
    return {**(distinct[0] if len(distinct) == 1 else {"anyOf": distinct}), **notes}


def _ways(schema: dict[str, Any]) -> list[dict[str, Any]]:
    match schema.get("type"):
        case "integer":
            return [schema, {"type": "string", "pattern": _INTEGER}]
        case "number":
            return [schema, {"type": "boolean"}, {"type": "string", "pattern": _NUMBER}]
        case "array" if schema["items"].get("type") == "string":
            return [{**schema, "items": {"anyOf": [schema["items"], {"type": "null"}]}}]
        case "object":
            return [{**schema, "additionalProperties": _values(schema)}, {"type": "array", "maxItems": 0}]
    return [schema]


def _values(schema: dict[str, Any]) -> dict[str, Any]:
    values = schema["additionalProperties"]
    if {"type": "null"} in values.get("anyOf", ()):
        return {"description": "what is of none of the declared kinds is left out"}
    return _wide(values, optional=True)
