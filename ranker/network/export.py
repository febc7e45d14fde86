"""From torch to the two ONNX graphs that serve, and new weights into graphs that exist.

`extend.onnx` encodes new events given the cached keys and values of the earlier ones; `score.onnx` scores a list.
All sizes but d, the feature counts and the number of layers are free. Item vectors come in as inputs: the tables stay
outside, where changed rows apply in place.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ranker.contracts.bundle_files import EXTEND, GRAPHS, SCORE
from ranker.network.transformer import WORD_STRENGTHS, Cache, Events, History, ModelConfig, Ranker, Slate

OPSET = 18
EXTEND_INPUTS = ("item_vec", "action", "gap", "value", "past_k", "past_v", "past_len", "n_len")
EXTEND_OUTPUTS = ("k", "v", "h")
SCORE_INPUTS = (
    "cand_vec", "cand_feat", "cand_item", "cand_cat", "cand_pos", "cand_text", "cand_len", "covisit", "context",
    "h", "hist_action", "hist_age", "hist_item", "hist_cat", "hist_pos", "hist_text", "hist_len",
    "said", "words",
)  # fmt: skip
SCORE_OUTPUTS = ("logits",)
# The free axes of each input, by number; every input's axis 0 is B.
AXES: Mapping[str, Mapping[int, str]] = {
    **{name: {0: "B", 1: "n"} for name in EXTEND_INPUTS[:4]},
    **{name: {0: "B", 2: "P"} for name in ("past_k", "past_v")},
    **{name: {0: "B"} for name in ("past_len", "n_len", "cand_len", "hist_len", "context")},
    **{name: {0: "B", 1: "C"} for name in SCORE_INPUTS[:6]},
    **{name: {0: "B", 1: "L"} for name in SCORE_INPUTS[9:16]},
    "covisit": {0: "B", 1: "C", 2: "L"},
    "said": {0: "B", 1: "C", 2: "W"},
    "words": {0: "B", 1: "W"},
}


class ExtendGraph(nn.Module):
    """`HistoryEncoder` with the graph's flat inputs, in the order of EXTEND_INPUTS."""

    def __init__(self, model: Ranker) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> k, v [B, layers, n, d] and h [B, n, d]."""
        item_vec, action, gap, value, past_k, past_v, past_len, _ = inputs  # n_len: what comes after it sees no event
        events = Events(item_vec=item_vec, action=action, gap=gap, value=value)
        k, v, h = self.model.encoder(events, Cache(k=past_k, v=past_v, length=past_len))
        return k, v, h


class ScoreGraph(nn.Module):
    """`Ranker.score` with the graph's flat inputs, in the order of SCORE_INPUTS."""

    def __init__(self, model: Ranker) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        """-> logits [B, C, A]."""
        given = dict(zip(SCORE_INPUTS, inputs, strict=True))
        slate = Slate(
            item_vec=given["cand_vec"],
            features=given["cand_feat"],
            item=given["cand_item"],
            category=given["cand_cat"],
            position=given["cand_pos"],
            text=given["cand_text"],
            length=given["cand_len"],
            covisit=given["covisit"],
            context=given["context"],
            said=given["said"],
            words=given["words"],
        )
        unused = given["hist_age"]  # what only the encoder reads, and score does not
        history = History(
            item_vec=unused,
            action=given["hist_action"],
            gap=unused,
            value=unused,
            age=given["hist_age"],
            item=given["hist_item"],
            category=given["hist_cat"],
            position=given["hist_pos"],
            text=given["hist_text"],
            length=given["hist_len"],
        )
        return self.model.score(slate, history, given["h"])


def example_inputs(
    config: ModelConfig, *, batch: int, events: int, cached: int, candidates: int, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random inputs of the extend and the score graph, by name, with ragged lengths: for export and golden outputs."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    def below(top: int, *shape: int) -> Tensor:
        return torch.randint(0, max(top, 1), shape, generator=rng)

    b, n, p, c, d, t = batch, events, cached, candidates, config.d, config.text_dim
    extend = {
        "item_vec": normal(b, n, d), "action": below(config.n_actions, b, n), "gap": normal(b, n).abs(),
        "value": normal(b, n), "past_k": normal(b, config.layers, p, d), "past_v": normal(b, config.layers, p, d),
        "past_len": below(p + 1, b), "n_len": 1 + below(n, b),
    }  # fmt: skip
    unit = nn.functional.normalize
    score = {
        "cand_vec": normal(b, c, d), "cand_feat": normal(b, c, config.n_features), "cand_item": below(2 * c, b, c),
        "cand_cat": below(5, b, c), "cand_pos": torch.arange(c).repeat(b, 1), "cand_text": unit(normal(b, c, t), dim=2),
        "cand_len": 1 + below(c, b), "covisit": normal(b, c, n).abs(), "context": normal(b, config.n_context),
        "h": normal(b, n, d), "hist_action": below(config.n_actions, b, n), "hist_age": 3 * normal(b, n).abs(),
        "hist_item": below(2 * c, b, n), "hist_cat": below(5, b, n), "hist_pos": below(c + 1, b, n) - 1,
        "hist_text": unit(normal(b, n, t), dim=2), "hist_len": below(n + 1, b),
        "said": normal(b, c, 3), "words": normal(b, 3, len(WORD_STRENGTHS)).abs(),
    }  # fmt: skip
    return extend, score


def export(model: Ranker, folder: Path) -> None:
    """Writes `extend.onnx` and `score.onnx` into the folder, which must exist. Takes about a second."""
    # Exporters share initialisers whose values are equal, such as biases that are still zero, under one name. So the
    # graphs are drawn from random weights, all different, and then given the model's.
    drawn = Ranker(model.config).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in drawn.parameters():
            parameter.normal_(generator=rng)
    extend, score = example_inputs(model.config, batch=2, events=3, cached=5, candidates=7)
    for graph, inputs, outputs, name in (
        (ExtendGraph(drawn), extend, EXTEND_OUTPUTS, GRAPHS[EXTEND]),
        (ScoreGraph(drawn), score, SCORE_OUTPUTS, GRAPHS[SCORE]),
    ):
        _draw(graph, inputs, outputs, folder / name)
        replace_weights(folder / name, model.state_dict(), folder / name)


def _draw(graph: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], path: Path) -> None:
    with warnings.catch_warnings():
        # The tracing exporter is deprecated and says so. It draws these graphs with the same speed of inference as
        # the newer one, in 0.5 s where that takes 13.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_axes={name: dict(AXES[name]) for name in inputs},
            dynamo=False,
        )
    proto = onnx.load(str(path))
    _name_weights(proto)
    onnx.save(proto, str(path))


def _name_weights(proto: onnx.ModelProto) -> None:
    """Takes the wrapper's prefix off, so that an initialiser has its parameter's name in `Ranker.state_dict()`."""
    renamed = {i.name: i.name.removeprefix("model.") for i in proto.graph.initializer}
    for initializer in proto.graph.initializer:
        initializer.name = renamed[initializer.name]
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)


def replace_weights(graph: Path, weights: Mapping[str, Tensor], out: Path) -> None:
    """Writes the graph again with new weights (a `Ranker.state_dict()`): milliseconds, where an export takes seconds.

    Raises:
        ValueError: a weight's shape is not the graph's, so the graph is of another model config.
    """
    proto = onnx.load(str(graph))
    for initializer in proto.graph.initializer:
        if initializer.name not in weights:
            continue  # a constant of the computation
        value = weights[initializer.name].detach().cpu().numpy().astype(np.float32)
        if value.shape != tuple(initializer.dims):
            raise ValueError(
                f"{initializer.name} is {list(value.shape)}, the graph has {list(initializer.dims)}: "
                "export the model again instead of replacing its weights"
            )
        initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), initializer.name))
    onnx.save(proto, str(out))
