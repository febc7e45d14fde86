"""A fuzzer: whatever comes over an input topic is used or refused by name, and what is used has finite features.

Inputs are bytes, and JSON made from the published schemas with hostile values in some places. Each goes the whole way
of the core: decoded, folded, stored and read again, made into features, joined with what was shown.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.contracts.decoding import InputDecoder, decode_vector, decoded
from ranker.contracts.documents import json_schemas
from ranker.contracts.errors import InvalidRecord, RowError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Item, ItemVector
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema, Normalise
from ranker.contracts.topics import ITEM_VECTORS, ITEMS, TOPICS, USER_INPUTS
from ranker.features.list import list_inputs
from ranker.features.user import user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import STATISTICS, ItemTables
from ranker.state.attribution import ShownList, astray, examples_of
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY
from tests.support.tiny import ENCODER, tiny_config, tiny_tables

NOW = 1_790_000_000_000
NAMES = ("u", "a", "b", "price", "age", "score")
SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(
        CandidateFeature(name="price", normalise=tuple(Normalise)),
        CandidateFeature(name="score", normalise=(Normalise.NONE, Normalise.LIST)),
    ),
    context=(ContextField(name="age"), ContextField(name="a", values=("b",))),
    item_numeric=("price",),
    window=4,
)
DECODE = InputDecoder(SCHEMA)
FUZZED = settings(
    max_examples=60, deadline=2000, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
LARGE = [3.4e38, -3.4028235e38, 3.5e38, 1e39, 1.7976931348623157e308, 2**31, 2**53 - 1, 2**53, 2**63, 10**30]
NUMBERS = st.sampled_from(
    [*LARGE, 0, -1, 1, 20.0, 0.5, -0.0, 1e-320, 32767, 32768, NOW, NOW // 1000, NOW * 1000, NOW - 5]
)
TEXTS = st.one_of(st.sampled_from([*NAMES, "", "click", "view", "../../x", "\x00", "é\U0001f600"]), st.text(max_size=8))
HOSTILE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def made_from(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    """JSON of a schema; now and then, at any place, something else."""
    if "$ref" in schema:
        return made_from(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    if "anyOf" in schema:
        return st.one_of([made_from(one, defs) for one in schema["anyOf"]])
    kind = schema.get("type")
    if "properties" in schema:
        fields = {name: mostly(made_from(one, defs)) for name, one in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema["required"]}
        return st.fixed_dictionaries(required, optional=fields)
    if kind == "object":
        return st.dictionaries(TEXTS, mostly(made_from(schema.get("additionalProperties", {}), defs)), max_size=4)
    if kind == "array":
        return st.lists(mostly(made_from(schema.get("items", {}), defs)), max_size=4)
    simple = {"string": TEXTS, "boolean": st.booleans(), "null": st.none(), "integer": NUMBERS, "number": NUMBERS}
    return simple.get(str(kind), HOSTILE)


def mostly(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The value, but one in ten times anything."""
    return st.integers(0, 9).flatmap(lambda number: value if number else HOSTILE)


BODIES = {topic: made_from(schema, schema["$defs"]) for topic, schema in json_schemas().items()}
BYTES = st.one_of(st.binary(max_size=60), HOSTILE.map(msgspec.json.encode))
PACKED = st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63), st.binary(max_size=40), TEXTS), max_size=10)
STAMPS = st.sampled_from([0, -5, NOW, NOW // 1000, NOW * 1000, NOW - 10**6, NOW + 10**9])


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes | None, bytes | None, int]:
    """Topic, key, body and timestamp of a message; the key is nearly always the record's."""
    topic = draw(st.sampled_from([*USER_INPUTS, ITEMS]))
    if draw(st.integers(0, 9)) == 0:
        return topic, draw(st.one_of(st.none(), st.binary(max_size=5))), draw(st.one_of(st.none(), BYTES)), NOW
    body = draw(BODIES[topic])
    if isinstance(body, dict):
        body[TOPICS[topic].key] = "u"
    return topic, b"u", msgspec.json.encode(body), draw(STAMPS)


@FUZZED
@given(st.lists(messages(), min_size=1, max_size=8))
def test_the_way_of_an_input(sent: list[tuple[str, bytes | None, bytes | None, int]]) -> None:
    """Nothing but a refusal comes out, the row stays readable and small, and its features are finite."""
    catalog = Catalog(SCHEMA.item_numeric)
    tables = ItemTables(tiny_tables(tiny_config(SCHEMA), ["a", "b"]), catalog, ENCODER)
    row = EMPTY
    for offset, (topic, key, body, stamp) in enumerate(sent):
        at = Position(topic, 0, offset, stamp)
        try:
            record = DECODE(at, key, body, NOW)
        except InvalidRecord as why:
            assert why.reason
            assert why.error
            continue
        if record is None:
            assert key is not None
            catalog.withdraw(key.decode())
        elif isinstance(record, Item):
            catalog.put(record)
        else:
            before, row = row, apply_input(row, record, at, SCHEMA)
            assert decode_row(encode_row(row)) == row
            astray(before, record, SCHEMA)
            shown = ShownList("m", lambda listed: np.zeros((len(listed.item_ids), len(STATISTICS))))
            for example in examples_of(before, record, row, SCHEMA, 1000, lambda _, shown=shown: shown):
                listed = before.named(example.request_id)
                assert listed is not None
                assert decode_row(example.state) == before.of(listed)
                msgspec.json.encode(example)
            for listed in row.current:
                check_features(row.of(listed), tables)


def check_features(row: Any, tables: ItemTables) -> None:
    """All numbers that the model reads of a row are finite, in float32."""
    if row.candidates is None:
        return
    assert len(row.candidates.columns) <= len(SCHEMA.candidate_features)
    with np.errstate(over="raise", invalid="raise"):
        listed = list_inputs(row, tables.catalog, SCHEMA)
        inputs = user_inputs(row, listed, tables, SCHEMA)
    for name in ("gap", "value", "age", "features", "covisit", "context"):
        assert np.isfinite(np.asarray(getattr(inputs, name), np.float32)).all(), name


@FUZZED
@given(st.data())
def test_every_decoder(data: st.DataObject) -> None:
    """Records of internal and control topics are decoded, or refused by name."""
    topic = data.draw(st.sampled_from(sorted(TOPICS)))
    value = data.draw(st.one_of(BYTES, BODIES[topic].map(msgspec.json.encode)))
    try:
        decoded(msgspec.json.Decoder(TOPICS[topic].record), value)
        if topic == ITEM_VECTORS:
            assert isinstance(decode_vector(value), ItemVector)
    except InvalidRecord as why:
        assert why.error


@FUZZED
@given(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"\x01", b"\x02"]).flatmap(
            lambda v: PACKED.map(lambda value: v + msgspec.msgpack.encode(value))
        ),
    )
)
def test_stored_rows(stored: bytes) -> None:
    """What is stored is a row, or says that it is none."""
    try:
        row = decode_row(stored)
    except RowError:
        return
    assert decode_row(encode_row(row)) == row
