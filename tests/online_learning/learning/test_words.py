"""What is learned of words: nothing where nobody types, and what people do after it where they do."""

from __future__ import annotations

import msgspec
import numpy as np
import torch

from online_learning.learning.learner import Learner, TrainingExample, model_config, training_example
from online_learning.recipe import Recipe
from ranker.features.names import WORD_FEATURES
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.network.transformer import WORD_STRENGTHS
from tests.support import stream
from tests.support.tiny import ENCODER, tiny_tables

SIZES = {"d": 16, "layers": 1, "hidden": 16, "relation_dim": 8, "text_dim": 8}


def made(said_of_chosen: float | None) -> tuple[Learner, list[TrainingExample]]:
    """A new model, and examples whose chosen item is so like what was typed; None: nobody typed."""
    config = model_config(stream.SCHEMA, **SIZES)
    tables = ItemTables(tiny_tables(config, []), Catalog(), ENCODER)
    examples = []
    for one in stream.examples(120):
        found = training_example(one, tables, stream.SCHEMA)
        if said_of_chosen is not None and found.chosen is not None:
            said = np.zeros((len(found.inputs.candidates), 1), np.float32)
            said[found.chosen] = said_of_chosen
            words = np.ones((1, len(WORD_FEATURES)), np.float32)
            found = msgspec.structs.replace(found, inputs=msgspec.structs.replace(found.inputs, said=said, words=words))
        if found.chosen is not None:
            examples.append(found)
    return Learner(config, tables, Recipe(sizes=dict(SIZES), weight_decay=0.2)), examples


def test_there_is_a_strength_for_each_feature() -> None:
    """The names of what is known of a text, and the model that reads it."""
    assert len(WORD_STRENGTHS) == len(WORD_FEATURES)


def test_where_nobody_types_words_stay_worth_what_they_were() -> None:
    """To the bit, however long it learns from other things: neither gradient nor decay reach them."""
    learner, examples = made(None)
    for _ in range(10):
        learner.learn(examples[:32])
    assert learner.model.words.strength.tolist() == list(WORD_STRENGTHS)
    assert not learner.model.words.relation.any()


def test_what_words_are_worth_is_learned() -> None:
    """Where people choose what is unlike the words they typed, likeness comes to count against an item."""
    torch.manual_seed(0)
    learner, examples = made(-2.0)
    asked = examples[0].inputs
    silent = msgspec.structs.replace(asked, said=np.zeros_like(asked.said))

    def moved() -> float:
        at = examples[0].chosen or 0
        with_words, without = learner.scores([asked, silent])
        return float(with_words[at, 0] - without[at, 0])

    assert moved() < 0  # before anything was learned, what is unlike goes down
    for step in range(60):
        learner.learn(examples[step % 3 :: 3], 2e-2)
    assert moved() > 0
