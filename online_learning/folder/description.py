"""`[schema]`, `[recipe]`, `[model]` and `[data]` of a folder's liverank.toml: which columns are which fields, and more.

This file imports neither polars nor torch: `liverank.settings` checks these tables in every process.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from online_learning.recipe import MODEL_SIZES, Recipe
from ranker.contracts.errors import LiverankError, SchemaError
from ranker.contracts.schema import FeatureSchema
from ranker.mapping.sources import Source, TimeUnit, refuse_unknown, sources_in

CONFIG_FILE = "liverank.toml"
#: kind of file -> the fields of its records.
FIELDS: dict[str, tuple[str, ...]] = {
    "interactions": (
        "user_id", "session_id", "item_id", "action", "event_id", "ts", "request_id", "position", "value", "text",
    ),
    "candidates": ("request_id", "user_id", "session_id", "ts", "k", "items", "item_id", "position", "score"),
    "impressions": ("request_id", "user_id", "session_id", "ts", "k", "item_id", "position", "score"),
    "items": ("item_id", "title", "text", "category", "tags", "published_at"),
    "users": ("user_id",),
}  # fmt: skip
#: kind of file -> fields that hold several columns, each under a name of its own: `features.price`.
MAPS: dict[str, tuple[str, ...]] = {
    "interactions": ("context",),
    "candidates": ("features", "context"),
    "impressions": ("features", "context", "actions"),
    "items": ("numeric",),
    "users": ("attributes",),
}
#: Options of `[data]`, and what each may be.
_OPTION_IS = {
    "time": "one of s, ms, us, ns", "time_zone": 'the name of a zone, as "Europe/Berlin"', "decimal": '"." or ","',
    "delimiter": "one character, and no quote", "recall": "a whole number of items, 0 to 1000",
}  # fmt: skip
OPTIONS = tuple(_OPTION_IS)
RECALLED = 100  # items of the lists that are recalled for a log without lists


class FolderError(LiverankError):
    """A folder that cannot be used as a log: which file, line or key, and what would be right."""


class Description(Struct, frozen=True, kw_only=True):
    """`[data]`. `shared` holds for every kind of file that has such a column, `own` for one kind, where it must."""

    shared: dict[str, Source] = {}
    own: dict[str, dict[str, Source]] = {}
    time: TimeUnit = "ms"
    time_zone: str = "UTC"  # of times that name none
    decimal: Literal[".", ","] = "."
    #: Of .csv; else the one that the header has most of.
    delimiter: Annotated[str, Meta(pattern=r'^[^"\r\n](?![\s\S])')] | None = None
    recall: Annotated[int, Meta(ge=0, le=1000)] | None = (
        None  # items of recalled lists; 0: lists are sampled, to train on alone
    )


class FolderConfig(Struct, frozen=True, kw_only=True):
    """What a folder's liverank.toml says of its log. `recall` is 0 where the log has its own lists."""

    schema: FeatureSchema = FeatureSchema()
    recipe: Recipe = Recipe()
    data: Description = Description()


def read_config(folder: Path) -> FolderConfig:
    """A folder's liverank.toml; the defaults where it has none.

    Raises:
        FolderError: it is no TOML.
        LiverankError: a table says what cannot be.
    """
    path = folder / CONFIG_FILE
    return parse_config(read_tables(path), str(path)) if path.exists() else FolderConfig()


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a liverank.toml.

    Raises:
        FolderError: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FolderError(f"{path} cannot be read: {error}; it must be TOML in UTF-8") from error


def parse_config(tables: Mapping[str, Any], where: str) -> FolderConfig:
    """The four tables of a file that training reads; other tables pass.

    Args:
        tables: of the file.
        where: the file's name, for errors.

    Raises:
        LiverankError: a key that nobody reads, with the nearest that somebody does, or a value that it cannot have.
    """
    for name in ("schema", "recipe", "model", "data"):
        if not isinstance(tables.get(name, {}), dict):
            raise FolderError(f"{where}: {name} is {tables[name]!r}; it must be a table, [{name}]")
    return FolderConfig(
        schema=_schema(tables.get("schema", {}), where),
        recipe=_recipe(tables.get("recipe", {}), tables.get("model", {}), where),
        data=_description(tables.get("data", {}), where),
    )


def _schema(table: Mapping[str, Any], where: str) -> FeatureSchema:
    refuse_unknown(table, FeatureSchema.__struct_fields__, "schema", where)
    try:
        return msgspec.convert(table, FeatureSchema)
    except (msgspec.ValidationError, SchemaError) as error:
        raise SchemaError(f"{where} [schema]: {error}") from error


def _recipe(table: Mapping[str, Any], sizes: Mapping[str, Any], where: str) -> Recipe:
    refuse_unknown(table, (key for key in Recipe.__struct_fields__ if key != "sizes"), "recipe", where)
    refuse_unknown(sizes, MODEL_SIZES, "model", where)
    for key, value in sizes.items():
        if MODEL_SIZES[key] is bool and not isinstance(value, bool):
            raise FolderError(f"{where}: {key} of [model] is {value!r}; it must be true or false")
        if MODEL_SIZES[key] is int and (type(value) is not int or value < 1):
            raise FolderError(f"{where}: {key} of [model] is {value!r}; it must be a whole number above 0")
    heads = sizes.get("heads", 2)
    if sizes.get("d", 32) % heads or sizes.get("hidden", 64) % heads:
        raise FolderError(f"{where}: heads of [model] is {heads}; it must divide d (else 32) and hidden (else 64)")
    try:
        return msgspec.convert({**table, "sizes": dict(sizes)}, Recipe)
    except msgspec.ValidationError as error:
        raise FolderError(f"{where} [recipe]: {error}") from error


def _description(table: Mapping[str, Any], where: str) -> Description:
    shared = dict.fromkeys(name for kind in FIELDS for name in (*FIELDS[kind], *MAPS[kind]))
    refuse_unknown(table, (*OPTIONS, *FIELDS, *shared), "data", where)
    for key in OPTIONS:
        try:
            msgspec.convert({key: table[key]} if key in table else {}, Description)
        except msgspec.ValidationError as error:
            raise FolderError(f"{where}: {key} of [data] is {table[key]!r}; it must be {_OPTION_IS[key]}") from error
    options = msgspec.convert({key: table[key] for key in OPTIONS if key in table}, Description)
    maps = {field for fields in MAPS.values() for field in fields}
    own = {}
    for kind, fields in FIELDS.items():
        # `items` is a kind of file, and the field of a list in `candidates`: a table of fields is the former.
        if not isinstance(inner := table.get(kind, {}), dict) or (kind == "items" and "column" in inner):
            continue
        refuse_unknown(inner, (*fields, *MAPS[kind]), f"data.{kind}", where)
        own[kind] = sources_in(inner, maps, f"data.{kind}", where)
    rest = {key: value for key, value in table.items() if key not in OPTIONS and key not in own}
    return msgspec.structs.replace(options, shared=sources_in(rest, maps, "data", where), own=own)
