"""Tables of a liverank.toml as text: `[schema]`, `[recipe]` and `[model]` where they differ from the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from online_learning.recipe import Recipe
from ranker.contracts.schema import FeatureSchema


def toml_value(value: Any) -> str:
    """A value as TOML writes it; tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return repr(value)


def toml_key(key: str) -> str:
    """A key, quoted where it has to be."""
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else toml_value(key)


def schema_text(schema: FeatureSchema) -> str:
    """`[schema]` with its tables of actions, candidate features and context fields."""
    plain = {key: value for key, value in _changed(schema, FeatureSchema()) if not _of_tables(value)}
    lines = ["[schema]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
    for name in ("actions", "candidate_features", "context"):
        for entry in getattr(schema, name):
            kept = {"name": entry.name, **dict(_changed(entry, type(entry)(name=entry.name)))}
            lines += ["", f"[[schema.{name}]]", *(f"{key} = {toml_value(value)}" for key, value in kept.items())]
    return "\n".join(lines) + "\n"


def recipe_text(recipe: Recipe) -> str:
    """`[recipe]` and `[model]`; each only where it says anything."""
    changed = dict(_changed(recipe, Recipe()))
    sizes = changed.pop("sizes", {})
    tables = (("recipe", changed), ("model", sizes))
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]) + "\n"
        for name, table in tables
        if table
    )


def _changed(given: msgspec.Struct, default: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    plain, usual = msgspec.to_builtins(given), msgspec.to_builtins(default)
    return ((key, value) for key, value in plain.items() if value != usual.get(key))


def _of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value)
