"""Makes what the package carries of the starter: weights learned from made-up sites, and graphs without weights.

    python -m online_learning.first_model.starter_training [FOLDER]

writes into `ranker/starter/data` (or FOLDER) and prints how it ranks sites that it did not learn from. Sites, weights
and batches are drawn by fixed seeds, and nothing but `first_model.sites` goes in.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.numpy import save_file

from online_learning.evaluation.metrics import pessimistic_rank
from online_learning.first_model.epochs import Average, batches, scheduled
from online_learning.first_model.log_examples import gather
from online_learning.first_model.sites import Site
from online_learning.first_model.stored_examples import StoredExamples
from online_learning.learning.learner import Learner, TrainingExample, model_config
from online_learning.recipe import Recipe
from ranker.contracts.bundle_files import GRAPHS
from ranker.contracts.records import CandidateList, Interaction
from ranker.contracts.schema import Action, FeatureSchema
from ranker.features.names import BUILT_IN
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.network.export import export
from ranker.network.transformer import Ranker
from ranker.starter.bundle import STARTER_ENCODER, starter_tables
from ranker.starter.weights import DATA, LAST_PLACE, TASTE_SHAPE, WEIGHTS

_SITES, _HELD_OUT = 80, 10
_RECIPE = Recipe(epochs=5, batch=64, id_dropout=1.0, weight_decay=0.02, learning_rate=4e-3)
# Sizes that nothing else in a graph has, so that constants made of them are found.
_HEADS, _WINDOW = 13, 8014
#: Hidden units that hold the shown order alone, one a form of the place, with the sign that keeps it.
_ORDER = {"reciprocal_position": (0, 1.0), "log_position": (1, -1.0)}
_LEAST = 0.3  # weight of a form of the place, so that an order is kept to the end of the longest list
_COUNTED = ("log_shown", "log_chosen", "log_touched", "choice_rate", "touch_rate")
_ATTENTION = 4  # of `transformer.RELATIONS`: what it attends to is learned of a catalogue, so it adds nothing yet


def make_starter(folder: Path = DATA) -> None:
    """Train, write, and say how well it ranks."""
    torch.set_num_threads(1)
    examples, held_out, tables = _examples()
    learner = Learner(model_config(FeatureSchema(), dropout=_RECIPE.dropout), tables, _RECIPE)
    for parameter in learner.items.parameters():
        parameter.requires_grad_(False)
    learn_relations(learner, examples)
    folder.mkdir(parents=True, exist_ok=True)
    write_parts(learner.model, folder)
    print(json.dumps({"examples": len(examples), **_judged(learner, held_out)}))


def learn_relations(learner: Learner, examples: StoredExamples) -> None:
    """Epochs over the examples, within `restrain`; the averaged weights are what stays."""
    rng = np.random.default_rng(_RECIPE.seed)
    restrain(learner.model)
    average = Average(learner.model, _RECIPE.averaging)
    total, step = _RECIPE.epochs * -(-len(examples) // _RECIPE.batch), 0
    for _ in range(_RECIPE.epochs):
        for batch in batches(examples, _RECIPE.batch, rng):
            learner.learn(batch, scheduled(_RECIPE, step, total))
            restrain(learner.model)
            step += 1
            average.update(learner.model, step)
    average.put(learner.model)


@torch.no_grad()
def restrain(model: Ranker) -> None:
    """Hold to what keeps an order where nothing is known, and to what means the same in every catalogue.

    The place enters by units of its own, which read nothing else, go through no further layer, and count the more for
    the higher place. Everything else reads events, what was counted of items, and the moment: for a person and items
    of whom nothing is known it is the same for each candidate.
    """
    units = [unit for unit, _ in _ORDER.values()]
    kept = torch.zeros_like(model.features.weight)
    kept[[BUILT_IN.index(name) for name in _COUNTED]] = 1
    kept[:, units] = 0
    model.features.weight.mul_(kept)
    for name, (unit, sign) in _ORDER.items():
        model.features.weight[BUILT_IN.index(name), unit] = 1
        weight = model.outcomes.weight[unit]
        weight.copy_(sign * (sign * weight).clamp(min=_LEAST))
    for linear in (model.item, model.context, model.user, model.related, model.mix):
        linear.weight[:, units] = 0
    model.mix.weight[units] = 0
    for linear in (model.features, model.mix):
        assert linear.bias is not None
        linear.bias[units] = 0
    model.relations.events[_ATTENTION] = 0
    model.encoder.numbers.weight[1] = 0  # of an event's value, whose unit nobody knows
    model.encoder.position.weight.zero_()
    model.match.weight.zero_()


def write_parts(model: Ranker, folder: Path) -> None:
    """Write weights and skeletons; see `ranker.starter.weights`."""
    names = write_skeletons(folder)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    about = {"config": json.dumps(model.config.to_dict())} | {graph: json.dumps(names[graph]) for graph in names}
    small = {
        name: np.ascontiguousarray(value.astype(np.float16))
        for name, value in sorted(weights.items())
        if name not in ("encoder.position.weight", "match.weight")
    }
    save_file(small, folder / WEIGHTS, about)


def write_skeletons(folder: Path) -> dict[str, list[str]]:
    """Write both graphs without initialisers; the initialisers that each wants."""
    actions = (*FeatureSchema().actions, *(Action(name=f"a{at}", positive=True) for at in range(_HEADS - 1)))
    config = model_config(FeatureSchema(actions=actions, window=_WINDOW))
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        export(Ranker(config), Path(temporary))
        for graph, name in GRAPHS.items():
            proto = onnx.load(str(Path(temporary) / name))
            found[graph] = _strip(proto.graph)
            onnx.save(proto, str(folder / name))
    return found


def _strip(graph: onnx.GraphProto) -> list[str]:
    """Take out the initialisers and the constants that depend on the schema; their names."""
    _free_shapes(graph)
    renamed = {node.output[0]: name for node in graph.node if (name := _named(node)) is not None}
    kept = [node for node in graph.node if not (node.op_type == "Constant" and node.output[0] in renamed)]
    for node in kept:
        for at, name in enumerate(node.input):
            node.input[at] = renamed.get(name, name)
    names = sorted({*(tensor.name for tensor in graph.initializer), *renamed.values()})
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    return names


def _named(node: onnx.NodeProto) -> str | None:
    """What a constant of a size is called; None for any other node."""
    if node.op_type != "Constant":
        return None
    value = numpy_helper.to_array(node.attribute[0].t)
    if value.dtype == np.int64 and _HEADS in value:
        return TASTE_SHAPE
    return LAST_PLACE if _WINDOW - 1 in value else None


def _free_shapes(graph: onnx.GraphProto) -> None:
    """Leave the number of features, context numbers and heads open."""
    for one in (*graph.input, *graph.output):
        dims = one.type.tensor_type.shape.dim
        at = {"cand_feat": 2, "context": 1, "logits": 2}.get(one.name)
        if at is not None and at < len(dims):
            dims[at].dim_param = f"{one.name}_{at}"


def _examples() -> tuple[StoredExamples, list[TrainingExample], ItemTables]:
    """Examples of the sites that are learned from, those of the others, and the tables of them all."""
    catalog = Catalog()
    tables = ItemTables(starter_tables(model_config(FeatureSchema()).to_dict()), catalog, STARTER_ENCODER)
    dim = len(tables.arrays.reduction)
    sites = [Site(number, STARTER_ENCODER, dim) for number in range(_SITES + _HELD_OUT)]
    for site in sites:
        for item in site.items():
            catalog.put(item)
        for vector in site.vectors():
            catalog.put_vector(vector)
    schema = FeatureSchema()
    learned, _ = gather(_records(sites[:_SITES]), tables, schema, lambda _: None)
    held_out, _ = gather(_records(sites[_SITES:]), tables, schema, lambda _: None)
    return learned, [one for one in held_out if one.chosen is not None], tables


def _records(sites: Iterable[Site]) -> Iterator[CandidateList | Interaction]:
    for site in sites:
        yield from site.records()


def _judged(learner: Learner, held_out: list[TrainingExample]) -> dict[str, float]:
    """Mean reciprocal rank on examples that were not learned from, beside the order shown."""
    scores = learner.scores([one.inputs for one in held_out])
    places = [one.chosen or 0 for one in held_out]
    ranks = [pessimistic_rank(score[:, 0], place) for score, place in zip(scores, places, strict=True)]
    return {"starter": float(np.mean(1 / np.array(ranks))), "shown": float(np.mean([1 / (1 + at) for at in places]))}


if __name__ == "__main__":
    make_starter(*(Path(argument) for argument in sys.argv[1:2]))
