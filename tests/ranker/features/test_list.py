"""Context fields are what they mean, however a producer writes them."""

from __future__ import annotations

import math

import pytest

from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList
from ranker.contracts.schema import ContextField, FeatureSchema
from ranker.features.list import list_inputs
from ranker.items.catalog import Catalog
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY

SCHEMA = FeatureSchema(
    context=(
        ContextField(name="store", values=("1", "2")),
        ContextField(name="app", values=("true",)),
        ContextField(name="n"),
    )
)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"store": "1"}, [1, 0, 0, 0]),
        ({"store": 2.0}, [0, 1, 0, 0]),
        ({"store": True, "app": True}, [1, 0, 1, 0]),
        ({"app": False}, [0, 0, 0, 0]),
        ({"store": "one", "n": "3"}, [0, 0, 0, math.log1p(3)]),
        ({"n": -3.0}, [0, 0, 0, -math.log1p(3)]),
        ({"n": True}, [0, 0, 0, math.log1p(1)]),
        ({"n": "nan"}, [0, 0, 0, 0]),
        ({"n": "many"}, [0, 0, 0, 0]),
    ],
)
def test_context_fields(context: dict[str, str | float | bool | None], expected: list[float]) -> None:
    """A declared "1" is the number 1 too, "true" a boolean; a declared number may be a text; what is none counts 0."""
    listed = CandidateList(user_id="u", request_id="r", ts=1, items=[Candidate(item_id="a")], context=context)
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, 1), SCHEMA)
    assert list_inputs(row, Catalog(), SCHEMA).context.tolist() == pytest.approx(expected)
