"""A model of a changed schema begins where the one before it stood."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from online_learning.first_model.fit import fit
from online_learning.first_model.warm import open_version, recipe_like, warm_tables, warm_weights
from online_learning.folder.log import open_folder
from online_learning.learning.learner import Learner, empty_arrays, model_config, training_example
from online_learning.recipe import MODEL_SIZES, Recipe
from online_learning.releases.versions import Origin
from ranker.contracts.ids import hash_id
from ranker.contracts.schema import Action, CandidateFeature, ContextField, FeatureSchema
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.network.transformer import Ranker
from ranker.registry.bundle import read_manifest
from ranker.registry.settings import RegistrySettings
from ranker.starter.bundle import publish_starter
from tests.support import stream
from tests.support.folders import shop
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_config, tiny_model

torch.set_num_threads(1)
replace = msgspec.structs.replace

OLD = replace(stream.SCHEMA, candidate_features=(CandidateFeature(name="price"),), context=(ContextField(name="a"),))
NEW = replace(
    OLD,
    actions=(*OLD.actions, Action(name="save"), Action(name="rent", positive=True)),
    candidate_features=(CandidateFeature(name="stars"), *OLD.candidate_features),
    context=(ContextField(name="device", values=("phone", "desk")), *OLD.context),
    item_numeric=("size",),
)


def scores(schema: FeatureSchema, model: Ranker, tables: ItemTables) -> np.ndarray:
    """Logits [lists, C, A] of some lists of the stream, each with its history."""
    learner = Learner(model.config, tables, Recipe(id_dropout=0.0))
    learner.model.load_state_dict(model.state_dict())
    made = [training_example(one, tables, schema) for one in stream.examples(30, schema=OLD, users=2)[-8:]]
    return np.stack(learner.scores([one.inputs for one in made]))


def test_a_changed_schema_ranks_as_before_at_first() -> None:
    """Features, context and actions that are new count for nothing yet; heads are found by their action's name."""
    origin = stream.origin(OLD, items=20)
    fresh = empty_arrays(tiny_config(NEW), ENCODER_WIDTH, 4)
    arrays = warm_tables(origin, fresh, ENCODER)
    arrays = replace(arrays, categories=origin.tables.categories)  # of a test's own number
    model = tiny_model(NEW, seed=9, dropout=0.0)
    taken = warm_weights(origin, model, NEW, arrays)
    old = Ranker(origin.config)
    old.load_state_dict(dict(origin.weights))
    blank = replace(
        origin.tables, statistics=arrays.statistics, neighbours=arrays.neighbours, strengths=arrays.strengths
    )
    before = scores(OLD, old, ItemTables(blank, Catalog(), ENCODER))
    after = scores(NEW, model, ItemTables(arrays, Catalog(NEW.item_numeric), ENCODER))
    np.testing.assert_allclose(after[..., :2], before, atol=1e-5)
    np.testing.assert_allclose(after[..., 2], before[..., 0], atol=1e-5, err_msg="a new prediction begins as a click")
    assert (taken.items, taken.weights) == (20, len(model.state_dict()))
    assert taken.anew == (
        "features: stars:none, stars:missing, stars:from-last, stars:off-last, stars:from-mean, stars:off-mean, "
        "item:size",
        "context: device=phone, device=desk",
        "actions: save, rent",
        "predictions: rent",
    )
    assert "anew: features: stars:none" in taken.words


def test_a_new_action_is_taken_for_a_click_or_a_view() -> None:
    """As an event, by whether it is positive."""
    origin, model = stream.origin(OLD), tiny_model(NEW, seed=9)
    warm_weights(origin, model, NEW, origin.tables)
    for name in ("encoder.action.weight", "relations.action.weight"):
        found, known = model.state_dict()[name], origin.weights[name]
        np.testing.assert_array_equal(found[[0, 1, 2, 3, 4]], known[[0, 1, 2, 0, 1]])


def test_a_longer_window_keeps_the_places_that_there_were() -> None:
    """The new ones begin at zero, as in a first training."""
    origin, longer = stream.origin(OLD), replace(OLD, window=12)
    model = tiny_model(longer, seed=9)
    warm_weights(origin, model, longer, origin.tables)
    found = model.state_dict()["encoder.position.weight"]
    np.testing.assert_array_equal(found[:8], origin.weights["encoder.position.weight"])
    assert not found[8:].any()


def test_other_sizes_take_what_fits() -> None:
    """Of another width nothing of it; of another number of layers the layers that both have. All of it is named."""
    origin = stream.origin(OLD, items=20)
    wide = Ranker(tiny_config(OLD, d=32))
    fresh = empty_arrays(wide.config, ENCODER_WIDTH, 4)
    arrays = warm_tables(origin, fresh, ENCODER)
    taken = warm_weights(origin, wide, OLD, arrays)
    assert (taken.items, "item rows, of another width" in taken.anew) == (0, True)
    assert "the weight encoder.layers.0.query.weight" in taken.anew
    np.testing.assert_array_equal(wide.state_dict()["features.weight"], origin.weights["features.weight"])
    deep = Ranker(tiny_config(OLD, layers=3))
    named = [name for name in deep.state_dict() if name.startswith("encoder.layers.2.")]
    taken = warm_weights(origin, deep, OLD, origin.tables)
    assert taken.anew == tuple(f"the weight {name}" for name in named)
    assert taken.words.startswith(
        f"20 item rows and {len(deep.state_dict()) - len(named)} weights are those of v0; anew: "
    )


def test_texts_of_another_encoder_start_anew() -> None:
    """Rows of items stay; what turns texts into vectors does not."""
    origin = stream.origin(OLD, items=3)
    fresh = empty_arrays(origin.config, ENCODER_WIDTH, 4)
    other = warm_tables(origin, fresh, "other")
    np.testing.assert_array_equal(other.text, fresh.text)
    np.testing.assert_array_equal(warm_tables(origin, fresh, ENCODER).text, origin.tables.text)
    np.testing.assert_array_equal(other.ids, origin.tables.ids)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Origin]:
    """A folder, a registry, and the starter of the folder's schema in it."""
    log, registry = shop(tmp_path_factory.mktemp("shop")), tmp_path_factory.mktemp("registry")
    version = publish_starter(open_folder(log).schema, str(registry))
    return log, registry, open_version(RegistrySettings(address=str(registry)), version)


def test_a_training_begins_with_a_version_and_says_so(begun: tuple[Path, Path, Origin]) -> None:
    """From the starter, in its sizes: every weight is taken over; manifest and result say so, and the recipe."""
    log, registry, starter = begun
    data, recipe = open_folder(log), replace(recipe_like(starter), epochs=1)
    made = fit(data, log, str(registry), recipe=recipe, warm=starter)
    manifest = read_manifest(registry / "default" / made.version)
    assert made.warm_from is not None
    assert (made.warm_from.version, made.warm_from.anew) == (starter.version, ())
    assert manifest.warm_from == msgspec.to_builtins(made.warm_from) | {"anew": []}
    assert {name: manifest.config[name] for name in MODEL_SIZES} == recipe.sizes
    assert manifest.recipe == msgspec.to_builtins(recipe)
    assert made.items >= 49


def test_what_a_version_learned_of_items_stays() -> None:
    """Each item has its row; what was counted of it starts anew, since the log counts it again."""
    origin = stream.origin(OLD, items=7)
    known = replace(origin, tables=replace(origin.tables, statistics=np.ones((7, 3), np.float32)))
    arrays = warm_tables(known, empty_arrays(origin.config, ENCODER_WIDTH, 2), ENCODER)
    assert arrays.items.tolist() == [hash_id(f"item-{at}") for at in range(7)]
    np.testing.assert_array_equal(arrays.ids, origin.tables.ids)
    assert not arrays.statistics.any()
    assert arrays.neighbours.shape == arrays.strengths.shape == (7, 2)


def test_the_sizes_of_a_starter_are_those_of_its_model(begun: tuple[Path, Path, Origin]) -> None:
    """Its manifest says no recipe: what is trained like it has its sizes and its co-visited items."""
    _, _, starter = begun
    recipe = recipe_like(starter)
    assert model_config(
        starter.schema, dropout=recipe.dropout, **recipe.sizes
    ).to_dict() == starter.config.to_dict() | {"dropout": recipe.dropout}
    assert recipe.neighbours == starter.tables.neighbours.shape[1] > 0
