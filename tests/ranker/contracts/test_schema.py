"""What makes two schemas differ, and what a change of one may not do to what is stored."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from ranker.contracts.errors import InvalidRecord, SchemaError
from ranker.contracts.schema import (
    Action,
    CandidateFeature,
    ContextField,
    FeatureSchema,
    Normalise,
    differences,
    refuse_renumbering,
    renumbered,
    unlike,
)

VIEW, CLICK = Action(name="view"), Action(name="click", positive=True)
CART, SAVE = Action(name="cart", positive=True, weight=3.0), Action(name="save")
SCHEMA = FeatureSchema(actions=(VIEW, CLICK, CART), candidate_features=(CandidateFeature(name="price"),))
replace = msgspec.structs.replace


def test_weights_make_no_other_schema() -> None:
    """They only mix what comes out of the model."""
    assert replace(SCHEMA, actions=(VIEW, CLICK, replace(CART, weight=9.0))).hash == SCHEMA.hash


@pytest.mark.parametrize(
    "change",
    [
        {"actions": (VIEW, CLICK, CART, SAVE)},
        {"actions": (VIEW, CLICK, replace(CART, positive=False))},
        {"actions": (VIEW, CLICK, replace(CART, positive=False, retired=True))},
        {"candidate_features": ()},
        {"candidate_features": (CandidateFeature(name="price", normalise=(Normalise.LOG,)),)},
        {"context": (ContextField(name="device"),)},
        {"item_numeric": ("price",)},
        {"half_life_hours": 1.0},
        {"window": 32},
    ],
    ids=str,
)
def test_everything_else_does(change: dict) -> None:
    """And what it is can be said."""
    changed = replace(SCHEMA, **change)
    assert changed.hash != SCHEMA.hash
    assert len(differences(changed, SCHEMA)) >= 1
    assert differences(changed, changed) == ()


def test_the_hash_of_release_01_is_accepted() -> None:
    """It was of everything, as JSON; a schema without weights of its own keeps it."""
    written = (
        b'{"actions":[{"name":"view","positive":false,"weight":1.0},{"name":"click","positive":true,"weight":1.0},'
        b'{"name":"cart","positive":true,"weight":3.0}],"candidate_features":[{"name":"price","normalise":["none"]}],'
        b'"context":[],"item_numeric":[],"half_life_hours":168.0,"window":64}'
    )
    assert SCHEMA.full_hash == hashlib.sha256(written).hexdigest()[:16]
    assert SCHEMA.named(SCHEMA.full_hash)
    assert SCHEMA.named(SCHEMA.hash)
    assert not SCHEMA.named(FeatureSchema().hash)
    assert FeatureSchema().hash == FeatureSchema().full_hash


def test_release_01_reads_a_schema_that_retires_nothing() -> None:
    """It knows no `retired`, and refuses what it does not know; what it leaves out it has as the default."""
    assert b"retired" not in msgspec.json.encode(SCHEMA)
    assert msgspec.json.decode(msgspec.json.encode(SCHEMA), type=FeatureSchema) == SCHEMA


def test_differences_are_named() -> None:
    """Field by field, the weight too."""
    new = replace(
        SCHEMA, actions=(VIEW, CLICK, replace(CART, weight=5.0), SAVE), candidate_features=(),
        context=(ContextField(name="device", values=("a",)),), window=128,
    )  # fmt: skip
    assert differences(new, SCHEMA) == (
        "the action 'save' is new",
        "weight of the action 'cart' is 5.0 instead of 3.0",
        "the candidate feature 'price' is gone",
        "the context field 'device' is new",
        "window is 128 instead of 64",
    )
    two = (CandidateFeature(name="a"), CandidateFeature(name="b"))
    turned = differences(replace(SCHEMA, candidate_features=two[::-1]), replace(SCHEMA, candidate_features=two))
    assert turned == ("the candidate_features stand in another order",)


def test_numbers_in_rows_keep_their_meaning() -> None:
    """Append and retire: all else is refused, with the action and how to do it."""
    refuse_renumbering(replace(SCHEMA, actions=(VIEW, CLICK, CART, SAVE)), SCHEMA, "v1")
    refuse_renumbering(replace(SCHEMA, actions=(VIEW, CLICK, Action(name="cart", retired=True), SAVE)), SCHEMA, "v1")
    with pytest.raises(SchemaError, match=r"number 2 is 'cart' there and 'save' here: append .* retired = true"):
        refuse_renumbering(replace(SCHEMA, actions=(VIEW, CLICK, SAVE, CART)), SCHEMA, "v1")
    with pytest.raises(SchemaError, match=r"v1: 'cart' is gone, .* retired = true"):
        refuse_renumbering(replace(SCHEMA, actions=(VIEW, CLICK)), SCHEMA, "v1")
    assert renumbered(replace(SCHEMA, actions=(VIEW, CLICK)), SCHEMA) is None, "back to an earlier one"


def test_a_retired_action_is_not_taken() -> None:
    """It keeps its number, is no valid one, and cannot be positive; what topics imply stays."""
    schema = FeatureSchema(actions=(VIEW, CLICK, Action(name="cart", retired=True), SAVE))
    assert schema.action_number("save") == 3
    with pytest.raises(InvalidRecord, match="valid are view, click, save"):
        schema.action_number("cart")
    with pytest.raises(SchemaError, match="still positive"):
        FeatureSchema(actions=(VIEW, CLICK, replace(CART, retired=True)))
    with pytest.raises(SchemaError, match="a topic implies it"):
        FeatureSchema(actions=(Action(name="view", retired=True), CLICK))


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ({"actions": (VIEW, CLICK, CART, SAVE)}, True),
        ({"actions": (VIEW, CLICK, Action(name="cart", retired=True))}, True),
        ({"actions": (VIEW, CLICK, replace(CART, weight=1.0))}, True),
        ({"candidate_features": (), "context": (ContextField(name="device"),), "item_numeric": ("x",)}, True),
        ({"window": 128}, True),
        ({"window": 32}, False),
        ({"half_life_hours": 1.0}, False),
        ({"actions": (VIEW, CLICK, replace(CART, positive=False))}, False),
        ({"actions": (VIEW, CLICK, SAVE)}, False),
    ],
    ids=str,
)
def test_which_examples_mean_the_same(change: dict, reads: bool) -> None:
    """What only adds, or leaves out, can be read; what gives a number or a silence another meaning cannot."""
    assert replace(SCHEMA, **change).reads(SCHEMA) == reads


def test_a_process_with_another_schema_says_what_to_do() -> None:
    """Nothing where it has none or the same; for weights that the trainer brings them; else the path."""
    assert unlike(None, SCHEMA, "v1") is None
    assert unlike(SCHEMA, SCHEMA, "v1") is None
    weights = unlike(replace(SCHEMA, actions=(VIEW, CLICK, replace(CART, weight=5.0))), SCHEMA, "v1")
    assert weights is not None
    assert "weight of the action 'cart' is 5.0 instead of 3.0. A trainer with the new weights" in weights
    more = unlike(replace(SCHEMA, actions=(VIEW, CLICK, CART, SAVE)), SCHEMA, "v1")
    assert more is not None
    assert "the action 'save' is new" in more
    assert "liverank train --from-kafka --warm-from serving" in more
