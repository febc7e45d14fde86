"""Whatever stands in a file, a line becomes a record that can be kept and read again, or says what is wrong with it."""

from __future__ import annotations

import ast
import gzip
import io
import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from online_learning.folder.cells import BadCell, Cells, number_of
from online_learning.folder.description import FIELDS, Description, FolderError, Source
from online_learning.folder.files import columns_of, lines_of
from online_learning.folder.records import attributes_of, interaction_of, item_of, list_of, listed_row
from ranker.contracts.schema import ContextField, FeatureSchema
from tests.support.folders import START

SCHEMA = FeatureSchema(context=(ContextField(name="hour"), ContextField(name="device", values=("mobile",))))
MAPPED = {
    "interactions": ("context.hour", "context.device", "context.other"),
    "candidates": ("features.price", "context.hour"),
    "impressions": ("features.price", "actions.click", "context.other"),
    "items": ("numeric.price",),
    "users": ("attributes.hour", "attributes.device", "attributes.other"),
}
MAKERS: dict[str, Callable[[Cells], Any]] = {
    "interactions": lambda cells: interaction_of(cells, SCHEMA, "x:1"),
    "candidates": lambda cells: list_of(cells, SCHEMA, "x:1"),
    "impressions": lambda cells: listed_row(cells, SCHEMA, 1),
    "items": item_of,
    "users": lambda cells: attributes_of(cells, SCHEMA),
}
USUAL = {"user_id": "u", "item_id": "i", "action": "click", "ts": START, "items": '["a", "b"]'}

odd_texts = st.sampled_from(
    ["", " ", "NULL", "nan", "inf", "-1e400", "1,5", "1.234,5", "1_000", "0x1f", "[1, 2]", "['a']", "[[[", "{}", "true",
     "2024-05-01", "2024-05-01T12:00:00+99:00", "0001-01-01", "9999-12-31T23:59:59Z", "2024-05-01 12:00:00 UTC",
     "1.7e12", "9" * 400, "x" * 5000, "a\0b", "🛒", "\u202e", "[" * 5000]
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | odd_texts | st.binary(max_size=8)
    | st.integers(10**300, 10**301) | st.decimals() | st.datetimes() | st.dates() | st.times() | st.timedeltas()
)  # fmt: skip
cells_of_any_kind = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from([*MAKERS]), decimal=st.sampled_from(".,"), data=st.data())
def test_any_cell_makes_a_record_or_says_what_is_wrong(kind: str, decimal: str, data: st.DataObject) -> None:
    """No other exception comes out, and what was made is the same after it was sorted on disk."""
    fields = (*FIELDS[kind], *MAPPED[kind])
    given_cells = data.draw(st.dictionaries(st.sampled_from(fields), cells_of_any_kind, max_size=3))
    line = {field: USUAL[field] for field in fields if field in USUAL} | given_cells
    cells = Cells(line, {field: Source(column=field) for field in fields}, Description(decimal=decimal))  # type: ignore[arg-type]
    try:
        record = MAKERS[kind](cells)
    except BadCell as bad:
        assert bad.field and ("must" in bad.problem or ";" in bad.problem), bad
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)) == record


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("1234.5", ".", 1234.5), ("1,234.50", ".", 1234.5), ("1,234,567", ".", 1234567),
        ("1 234 567.5", ".", 1234567.5),
        ("1\u00a0234", ".", 1234), ("1'234.5", ".", 1234.5), ("-1,234.5", ".", -1234.5), (" 7 ", ".", 7),
        (".5", ".", 0.5),
        ("1e3", ".", 1000), ("1.234,5", ",", 1234.5), ("1.234", ",", 1234), ("1234,5", ",", 1234.5), ("5", ",", 5),
        ("1 234,5", ",", 1234.5), ("1,234", ".", None), ("1,5", ".", None), ("1.5", ",", None), ("1.23,5", ",", None),
        ("True", ".", 1), (" false ", ",", 0), ("yes", ".", None),
        ("12,34.5", ".", None), ("1_000", ".", None), ("$5", ".", None), ("5%", ".", None), ("1,2,3", ".", None),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, decimal: str, number: float | None) -> None:
    """What parts thousands is taken where it can be nothing else; what could be two numbers is none."""
    if number is None:
        with pytest.raises(BadCell, match="it must be a number"):
            number_of(text, "price", decimal)
    else:
        assert number_of(text, "price", decimal) == number


@pytest.mark.parametrize(
    "value",
    [
        "1700000000000", 1_700_000_000_000, 1.7e12, "1.7e12", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20 UTC",
        "2023-11-14T23:13:20+01:00", datetime(2023, 11, 14, 22, 13, 20), Decimal("1700000000000"),
    ],
    ids=str,
)  # fmt: skip
def test_one_moment_in_many_writings(value: object) -> None:
    """Numbers, texts and times of a zone, mixed in one column, are one time."""
    cells = Cells({"ts": value}, {"ts": Source(column="ts")}, Description())
    assert cells.moment("ts") == START


def test_a_day_is_its_midnight() -> None:
    """A Parquet column of days is in the folder's zone, as times that name none."""
    cells = Cells(
        {"published_at": date(2024, 1, 1)}, {"published_at": Source()}, Description(time_zone="Europe/Berlin")
    )
    assert cells.moment("published_at") == 1_704_063_600_000


@pytest.mark.parametrize("value", [time(12), timedelta(hours=1), True, [1], {"a": 1}], ids=str)
def test_what_is_no_time_says_so(value: object) -> None:
    """A time of day, a span, a flag, a list."""
    with pytest.raises(BadCell, match="it must be a number of ms, or ISO 8601"):
        Cells({"ts": value}, {"ts": Source(column="ts")}, Description()).moment("ts")


def written(frame: pl.DataFrame) -> bytes:
    """A frame as a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


CSV = b"user_id,item_id,action,ts\n" + b"".join(b"u%d,i,view,17000000000%02d\n" % (at, at) for at in range(60))
FORMS = {
    "interactions.csv": CSV,
    "interactions.tsv": CSV.replace(b",", b"\t"),
    "interactions.jsonl": b'{"user_id":"u","item_id":1}\n' * 50,
    "interactions.parquet": written(pl.DataFrame({"user_id": ["u"] * 50, "item_id": range(50)})),
    "interactions.csv.gz": gzip.compress(CSV),
    "interactions.csv.zst": zstandard.compress(CSV),
}


def read(path: Path) -> int:
    """How many lines a file has, or -1 where it is no table."""
    try:
        columns_of(path)
        return sum(1 for _ in lines_of(path))
    except FolderError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return -1


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_file_of_any_bytes_is_lines_or_no_table(tmp_path_factory: Any, name: str, data: st.DataObject) -> None:
    """Rubbish, a file that was cut, a file with changed bytes: lines, or one sentence with the file."""
    whole = FORMS[name]
    at = data.draw(st.integers(0, len(whole) - 1))
    content = data.draw(
        st.just(whole[:at])
        | st.binary(max_size=200)
        | st.binary(min_size=1, max_size=8).map(lambda odd: whole[:at] + odd + whole[at + len(odd) :])
    )
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    read(path)


@pytest.mark.parametrize("name", ["interactions.csv.gz", "interactions.csv.zst"])
def test_a_packed_file_that_was_cut_is_never_a_shorter_log(tmp_path: Path, name: str) -> None:
    """Wherever it was cut; and one that is several packed after each other is all of them."""
    path = tmp_path / name
    for length in range(1, len(FORMS[name]), 3):
        path.write_bytes(FORMS[name][:length])
        assert read(path) == -1
    path.write_bytes(FORMS[name] * 3)
    assert read(path) == 3 * 61 - 1


def test_parquets_own_types(tmp_path: Path) -> None:
    """Structs are columns with a point, bytes are text, decimals numbers, days and times of any unit times."""
    frame = pl.DataFrame(
        {
            "user_id": [b"u"], "item_id": [7], "context": [{"device": "mobile", "hour": 3}],
            "value": [Decimal("9.90")], "ts": [datetime(2023, 11, 14, 22, 13, 20)],
        },
        schema_overrides={"ts": pl.Datetime("ns", "UTC")},
    )  # fmt: skip
    frame.write_parquet(tmp_path / "interactions.parquet")
    columns = columns_of(tmp_path / "interactions.parquet")
    assert columns == ["user_id", "item_id", "context.device", "context.hour", "value", "ts"]
    (line,) = lines_of(tmp_path / "interactions.parquet")
    sources = {name: Source(column=name) for name in columns} | {"action": Source(value="view")}
    event = interaction_of(Cells(line.cells, sources, Description()), SCHEMA, "x:1")
    assert (event.user_id, event.item_id, event.value, event.ts) == ("u", "7", 9.9, START)
    assert event.context == {"device": "mobile", "hour": 3.0}


def test_lists_as_python_writes_them(tmp_path: Path) -> None:
    """A column of lists that went through a CSV has single quotes, or numbers with a point."""
    for text, items in (("['a', 'b']", ["a", "b"]), ("[7.0, 8]", ["7", "8"]), (json.dumps(["a", 7]), ["a", "7"])):
        cells = Cells({"items": text, "user_id": "u"}, {"items": Source(), "user_id": Source()}, Description())
        assert [item.item_id for item in list_of(cells, SCHEMA, "x:1").items] == items


def list_in(text: str) -> list[Any]:
    """The items of a list that stands in a cell, and their prices."""
    line = {"items": '["a", "b"]', "user_id": "u", "features.price": text}
    cells = Cells(line, {name: Source(column=name) for name in line}, Description())
    return [(item.features or {}).get("price") for item in list_of(cells, SCHEMA, "x:1").items]


@pytest.mark.parametrize(
    "text",
    ["['i0' 'i1' 'i2']", "['i0' 'i1'\n 'i2']", "['i0', 'i1' 'i2']", """["it's" 'b']""", "[1 2 3]", "['' '']"],
)
def test_a_list_as_numpy_writes_it_is_none(text: str) -> None:
    """Without commas Python reads texts side by side as one: a list of one item that nobody has."""
    cells = Cells({"items": text, "user_id": "u"}, {"items": Source(), "user_id": Source()}, Description())
    with pytest.raises(BadCell, match="its parts between commas"):
        list_of(cells, SCHEMA, "x:1")


@pytest.mark.parametrize("text", ["['', 'b']", """["a' 'b", 'c']""", "['a',\n 'b']", "['' , 'b']"])
def test_quotes_within_texts_part_nothing(text: str) -> None:
    """An empty text, a text that has quotes in it, and a list over two lines are what Python means by them."""
    cells = Cells({"tags": text, "item_id": "i"}, {"tags": Source(), "item_id": Source()}, Description())
    assert item_of(cells).tags == ast.literal_eval(text)


@pytest.mark.parametrize(
    ("text", "prices"),
    [("[1.5, nan]", [1.5, None]), ("[NaN, 2]", [None, 2]), ("[True, false]", None), ("[True, False]", [1, 0]),
     ("[None, 1]", [None, 1]), ("[inf, 1]", None), ("[-inf, 1]", None), ("[1, -Infinity]", None), ("[name, 1]", None)],
)  # fmt: skip
def test_numbers_of_a_list_as_python_writes_them(text: str, prices: list[float | None] | None) -> None:
    """`nan` is absent, true and false are 1 and 0, and what is not finite says so."""
    if prices is None:
        with pytest.raises(BadCell, match=r"price is .*; it must be a (finite number|JSON list)"):
            list_in(text)
    else:
        assert list_in(text) == prices


@pytest.mark.parametrize("text", ["[nan, 'a']", '[NaN, "a"]', "[None, 'a']"])
def test_what_is_no_number_is_no_item(text: str) -> None:
    """An id that is missing from a list is not one that is called `nan`."""
    cells = Cells({"items": text, "user_id": "u"}, {"items": Source(), "user_id": Source()}, Description())
    with pytest.raises(BadCell, match="an id has 1 to 256 characters"):
        list_of(cells, SCHEMA, "x:1")
    held = Cells({"items": [float("nan"), "a"], "user_id": "u"}, cells.sources, Description())
    with pytest.raises(BadCell, match="an id has 1 to 256 characters"):
        list_of(held, SCHEMA, "x:1")


@pytest.mark.parametrize("text", ["x", "on", "1,5"])
def test_what_is_no_flag_says_what_would_be(text: str) -> None:
    """Not that it must be a number, which a flag need not be."""
    with pytest.raises(BadCell, match="it must be true or false, yes or no, or a count"):
        Cells({"click": text}, {"click": Source()}, Description()).flag("click")
