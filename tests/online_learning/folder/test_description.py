"""What a folder's liverank.toml says is read as it stands, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from online_learning.folder.description import parse_config, read_config
from online_learning.folder.written import recipe_text, schema_text
from online_learning.recipe import Recipe
from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.mapping.sources import Source

SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click"), Action(name='buy "now"', positive=True, weight=3.5)),
    candidate_features=(CandidateFeature(name="price", normalise=(Normalise.LIST_LOG, Normalise.LIST_RANK)),),
    context=(ContextField(name="device", values=("mobile", "bürö")), ContextField(name="hour")),
    item_numeric=("weight", "height"),
    window=32,
)
RECIPE = Recipe(epochs=3, learning_rate=1e-3, sizes={"d": 16, "list_block": True})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Schema, recipe and sizes, with quotes and other scripts, come back equal."""
    (tmp_path / "liverank.toml").write_text(schema_text(SCHEMA) + "\n" + recipe_text(RECIPE), encoding="utf-8")
    found = read_config(tmp_path)
    assert (found.schema, found.recipe) == (SCHEMA, RECIPE)
    assert found.schema.hash == SCHEMA.hash


def test_a_folder_without_a_file_has_the_defaults(tmp_path: Path) -> None:
    """Plain columns, views and clicks."""
    found = read_config(tmp_path)
    assert (found.schema, found.recipe, found.data.time) == (FeatureSchema(), Recipe(), "ms")


def test_items_is_a_kind_of_file_and_a_field() -> None:
    """`[data.items]` maps the file's fields; `items` of `[data.candidates]`, or with a column, is the field."""
    tables = {"items": {"item_id": "sku"}, "candidates": {"items": {"column": "shown", "separator": "|"}}}
    found = parse_config({"data": tables}, "x").data
    assert found.own["items"] == {"item_id": Source(column="sku")}
    assert found.own["candidates"]["items"] == Source(column="shown", separator="|")
    shared = parse_config({"data": {"items": {"column": "shown", "separator": "|"}}}, "x").data.shared
    assert shared == {"items": Source(column="shown", separator="|")}


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"data": {"itm_id": "sku"}}, "nobody reads 'itm_id' of .data.; the nearest is 'item_id'"),
        ({"data": {"time": "hours"}}, "time of .data. is 'hours'; it must be one of s, ms, us, ns"),
        ({"data": {"recall": -1}}, "recall of .data. is -1; it must be a whole number of items, 0 to 1000"),
        ({"data": {"item_id": {"colunm": "sku"}}}, "item_id of .data..*give a column's name"),
        ({"data": {"item_id": {"column": "sku", "value": "x"}}}, "has a column and a value"),
        ({"data": {"features": "price"}}, "give a list of columns"),
        ({"data": {"interactions": {"items": "x"}}}, "nobody reads 'items' of .data.interactions."),
        ({"data": "sku"}, "it must be a table"),
        ({"recipe": {"epochs": 0}}, r"\[recipe\]: Expected `int` >= 1 - at `\$.epochs`"),
        ({"recipe": {"learning_rate": float("nan")}}, r"\[recipe\]: Expected `float` >= 0.*learning_rate"),
        ({"recipe": {"dropout": 1.0}}, r"\[recipe\]: Expected `float` < 1.*dropout"),
        ({"data": {"delimiter": "||"}}, "delimiter of .data. is '||'; it must be one character".replace("|", r"\|")),
        ({"data": {"delimiter": '"'}}, "delimiter of .data. is .*; it must be one character, and no quote"),
        ({"schema": {"half_life_hours": float("inf")}}, "half_life_hours is inf; it must be a number above 0"),
        ({"schema": {"item_numeric": ["price", "price"]}}, "the item's number 'price' is declared 2 times"),
        ({"schema": {"context": [{"name": ""}]}}, "the context field '' is declared 1 times; each has a name"),
        ({"recipe": {"epochs": "many"}}, r"\[recipe\].*epochs"),
        ({"model": {"layers": True}}, "layers of .model. is True; it must be a whole number"),
        ({"model": {"list_block": 1}}, "it must be true or false"),
        ({"schema": {"actions": [{"name": "click"}]}}, "first actions"),
    ],
)
def test_what_cannot_be_is_refused(tables: dict, says: str) -> None:
    """In one line with the table, and what would be right."""
    with pytest.raises(LiverankError, match=says) as refused:
        parse_config(tables, "liverank.toml")
    assert "liverank.toml" in str(refused.value)
