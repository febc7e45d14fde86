"""The Transformer and its two graphs: what scores may depend on, and that every way to compute them agrees."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from ranker.network.export import EXTEND_OUTPUTS, ExtendGraph, ScoreGraph, example_inputs, export, replace_weights
from ranker.network.transformer import WORD_STRENGTHS, History, ItemTable, ModelConfig, Ranker, Slate

TOLERANCE = 1e-4
CONFIG = ModelConfig(n_actions=7, n_features=5, n_context=3, n_outcomes=2, d=16, layers=2, hidden=24, window=16)
SIZES = ((1, 1, 0, 1), (1, 4, 3, 9), (3, 5, 6, 8), (2, 1, 1, 2))  # batch, events, cached, candidates


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These models are tiny: a second thread would only wait for a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shaken(config: ModelConfig = CONFIG, *, seed: int = 0) -> Ranker:
    """A model with no parameter left at zero, so that no path through it is silent."""
    torch.manual_seed(seed)
    model = Ranker(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run_graph(path: Path, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    """The graph's outputs on the CPU."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: inputs[i.name].numpy() for i in session.get_inputs()})


@pytest.fixture(scope="module", params=[False, True], ids=["pointwise", "list_block"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranker, Path]:
    """A model and the folder with its graphs."""
    model = shaken(replace(CONFIG, list_block=request.param))
    folder = tmp_path_factory.mktemp("graphs")
    export(model, folder)
    return model, folder


def test_config_survives_its_manifest() -> None:
    """A config read back from plain values is the same, and a name it does not know is refused with the valid ones."""
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match=r"unknown model settings \['depth'\]; known are .*'layers'"):
        ModelConfig.from_dict({**CONFIG.to_dict(), "depth": 3})


@pytest.mark.parametrize(("batch", "events", "cached", "candidates"), SIZES)
def test_torch_equals_onnx(exported, batch: int, events: int, cached: int, candidates: int) -> None:
    """Both graphs give torch's numbers at sizes they were not exported with, empty cache and batch of one included."""
    model, folder = exported
    extend, score = example_inputs(
        model.config, batch=batch, events=events, cached=cached, candidates=candidates, seed=batch
    )
    with torch.no_grad():
        expected = (*ExtendGraph(model)(*extend.values()), ScoreGraph(model)(*score.values()))
    got = run_graph(folder / "extend.onnx", extend) + run_graph(folder / "score.onnx", score)
    for name, want, have in zip((*EXTEND_OUTPUTS, "logits"), expected, got, strict=True):
        np.testing.assert_allclose(have, want.numpy(), atol=TOLERANCE, err_msg=name)


def test_replaced_weights_are_the_new_models(exported, tmp_path: Path) -> None:
    """A graph given another model's weights computes that model: no weight is folded away under another name."""
    model, folder = exported
    other = shaken(model.config, seed=1)
    extend, score = example_inputs(model.config, batch=2, events=4, cached=3, candidates=6)
    for name, inputs, graph in (("extend", extend, ExtendGraph(other)), ("score", score, ScoreGraph(other))):
        replace_weights(folder / f"{name}.onnx", other.state_dict(), tmp_path / f"{name}.onnx")
        with torch.no_grad():
            expected = graph(*inputs.values())
        got = run_graph(tmp_path / f"{name}.onnx", inputs)
        for want, have in zip(expected if isinstance(expected, tuple) else (expected,), got, strict=True):
            np.testing.assert_allclose(have, want.numpy(), atol=TOLERANCE)


def test_weights_of_another_size_are_refused(exported, tmp_path: Path) -> None:
    """Replacing weights by those of another config names the weight and both shapes instead of writing a graph."""
    model, folder = exported
    other = Ranker(replace(model.config, d=32))
    with pytest.raises(ValueError, match="export the model again"):
        replace_weights(folder / "extend.onnx", other.state_dict(), tmp_path / "extend.onnx")
    assert not (tmp_path / "extend.onnx").exists()


def test_incremental_equals_full() -> None:
    """Encoding event by event, in pieces, and with a padded cache gives the encodings of one full pass."""
    model = shaken()
    inputs, _ = example_inputs(CONFIG, batch=2, events=12, cached=0, candidates=1)
    inputs |= {"past_len": torch.zeros(2, dtype=torch.long), "n_len": torch.full((2,), 12)}
    with torch.no_grad():
        *_, full = ExtendGraph(model)(*inputs.values())
        for pieces in ([1] * 12, [5, 1, 1, 3, 2]):
            cache = torch.full((2, 2, CONFIG.layers, 20, CONFIG.d), 1e3)  # keys and values; garbage beyond past_len
            encodings, done = [], 0
            for size in pieces:
                piece = {name: inputs[name][:, done : done + size] for name in ("item_vec", "action", "gap", "value")}
                piece |= {"past_k": cache[0], "past_v": cache[1], "past_len": torch.full((2,), done)}
                k, v, h = ExtendGraph(model)(*piece.values(), torch.full((2,), size))
                cache[0, :, :, done : done + size], cache[1, :, :, done : done + size] = k, v
                encodings.append(h)
                done += size
            torch.testing.assert_close(torch.cat(encodings, dim=1), full, atol=TOLERANCE, rtol=0)


def test_an_event_does_not_see_later_ones() -> None:
    """Changing the last event leaves every earlier encoding as it was."""
    model = shaken()
    inputs, _ = example_inputs(CONFIG, batch=1, events=6, cached=4, candidates=1)
    inputs["n_len"] = torch.tensor([6])
    changed = inputs | {"action": inputs["action"].clone(), "item_vec": inputs["item_vec"].clone()}
    changed["action"][:, -1] = (changed["action"][:, -1] + 1) % CONFIG.n_actions
    changed["item_vec"][:, -1] += 1
    with torch.no_grad():
        before, after = (ExtendGraph(model)(*i.values())[2] for i in (inputs, changed))
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert (before[:, -1] - after[:, -1]).abs().max() > TOLERANCE


def ragged_score_inputs(config: ModelConfig) -> dict[str, Tensor]:
    _, score = example_inputs(config, batch=4, events=9, cached=0, candidates=11, seed=3)
    return score | {"cand_len": torch.tensor([11, 1, 4, 7]), "hist_len": torch.tensor([0, 9, 1, 5])}


@pytest.mark.parametrize("list_block", [False, True])
def test_a_batch_scores_as_its_members_alone(list_block: bool) -> None:
    """Neither the other members of a batch nor the padding they force reach a score, with an empty history too."""
    model = shaken(replace(CONFIG, list_block=list_block))
    inputs = ragged_score_inputs(model.config)
    with torch.no_grad():
        together = ScoreGraph(model)(*inputs.values())
        for row in range(4):
            c, n = int(inputs["cand_len"][row]), max(int(inputs["hist_len"][row]), 1)
            alone = {name: value[row : row + 1] for name, value in inputs.items()}
            alone |= {name: value[:, :c] for name, value in alone.items() if name in CANDIDATE_INPUTS}
            alone |= {name: value[:, :n] for name, value in alone.items() if name in EVENT_INPUTS}
            alone["covisit"] = alone["covisit"][:, :c, :n]
            got = ScoreGraph(model)(*alone.values())[0]
            torch.testing.assert_close(got, together[row, :c], atol=TOLERANCE, rtol=0)


CANDIDATE_INPUTS = {"cand_vec", "cand_feat", "cand_item", "cand_cat", "cand_pos", "cand_text", "said"}
EVENT_INPUTS = {"h", "hist_action", "hist_age", "hist_item", "hist_cat", "hist_pos", "hist_text"}


def test_candidates_do_not_see_each_other_before_the_list_block() -> None:
    """Without the list block a candidate's score does not change with the other candidates; with it, it does."""
    changes = {}
    for list_block in (False, True):
        model = shaken(replace(CONFIG, list_block=list_block))
        inputs = ragged_score_inputs(model.config)
        inputs["cand_len"] = torch.full((4,), 11)
        other = inputs | {name: inputs[name].clone() for name in CANDIDATE_INPUTS | {"covisit"}}
        for name in ("cand_vec", "cand_feat", "cand_text", "covisit"):
            other[name][:, 1:] += 1
        other["cand_item"][:, 1:] += 1
        with torch.no_grad():
            first, second = (ScoreGraph(model)(*i.values()) for i in (inputs, other))
        assert (first[:, 1:] - second[:, 1:]).abs().max() > TOLERANCE
        changes[list_block] = float((first[:, 0] - second[:, 0]).abs().max())
    assert changes[False] < TOLERANCE < changes[True]


def test_what_was_typed_counts_before_anything_was_learned() -> None:
    """In a new model each outcome's logit moves by the likeness times what the text is worth, and by nothing else."""
    torch.manual_seed(0)
    model = Ranker(CONFIG).eval()
    inputs = ragged_score_inputs(CONFIG)
    silent = inputs | {"said": torch.zeros_like(inputs["said"])}
    with torch.no_grad():
        moved = ScoreGraph(model)(*inputs.values()) - ScoreGraph(model)(*silent.values())
    worth = inputs["words"] @ torch.tensor(WORD_STRENGTHS)  # [B, W]
    wanted = (inputs["said"] * worth[:, None]).sum(dim=2, keepdim=True).expand_as(moved)
    torch.testing.assert_close(moved, wanted, atol=TOLERANCE, rtol=TOLERANCE)


def training_batch(config: ModelConfig, table: ItemTable, *, seed: int) -> tuple[Slate, History]:
    """Random examples without texts, categories and co-visitation, as in a data set that has none."""
    extend, score = example_inputs(config, batch=8, events=6, cached=0, candidates=5, seed=seed)
    none, rng = torch.zeros, torch.Generator().manual_seed(seed)
    text, category = none(8, 6, config.text_dim), none(8, 6, dtype=torch.long)
    history = History(
        item_vec=table(torch.randint(1, 9, (8, 6), generator=rng), category, text), action=score["hist_action"],
        gap=extend["gap"], value=extend["value"], age=score["hist_age"], item=score["hist_item"], category=category,
        position=score["hist_pos"], text=text, length=score["hist_len"],
    )  # fmt: skip
    text, category = none(8, 5, config.text_dim), none(8, 5, dtype=torch.long)
    slate = Slate(
        item_vec=table(torch.randint(1, 9, (8, 5), generator=rng), category, text), features=score["cand_feat"],
        item=score["cand_item"], category=category, position=score["cand_pos"], text=text, length=score["cand_len"],
        covisit=none(8, 5, 6), context=score["context"], said=none(8, 5, 1), words=none(8, 1, len(WORD_STRENGTHS)),
    )  # fmt: skip
    return slate, history


def test_relations_never_trained_add_exactly_nothing() -> None:
    """After training without texts, categories and co-visitation, their appearance changes no score by one bit."""
    torch.manual_seed(0)
    model, table = Ranker(CONFIG), ItemTable(9, 4, CONFIG)
    optimizer = torch.optim.AdamW([*model.parameters(), *table.parameters()], lr=1e-2, weight_decay=0.1)
    for step in range(10):
        slate, history = training_batch(CONFIG, table, seed=step)
        optimizer.zero_grad()
        model(slate, history)[..., 0].logsumexp(dim=1).sum().backward()
        optimizer.step()
    model.eval()
    slate, history = training_batch(CONFIG, table, seed=99)
    text = torch.nn.functional.normalize(torch.randn(8, 5, CONFIG.text_dim), dim=2)
    seen = replace(
        slate,
        text=text,
        category=torch.ones(8, 5, dtype=torch.long),
        covisit=torch.rand(8, 5, 6),
        item_vec=slate.item_vec + table(torch.zeros(8, 5, dtype=torch.long), torch.ones(8, 5, dtype=torch.long), text),
    )
    past = replace(history, text=torch.randn(8, 6, CONFIG.text_dim), category=torch.ones(8, 6, dtype=torch.long))
    with torch.no_grad():
        torch.testing.assert_close(model(seen, past), model(slate, history), atol=0, rtol=0)


def test_every_input_is_learned_from() -> None:
    """No field of the slate or the history is ignored: changing any one of them changes the scores."""
    model = shaken()
    table = ItemTable(9, 4, CONFIG)
    slate, history = training_batch(CONFIG, table, seed=1)
    slate = replace(
        slate,
        category=torch.randint(0, 4, (8, 5)),
        text=torch.randn(8, 5, CONFIG.text_dim),
        said=torch.randn(8, 5, 1),
        words=torch.rand(8, 1, len(WORD_STRENGTHS)),
    )
    history = replace(
        history,
        length=torch.full((8,), 6),
        category=torch.randint(0, 4, (8, 6)),
        text=torch.randn(8, 6, CONFIG.text_dim),
        action=history.action.clamp(max=CONFIG.n_actions - 2),
    )
    with torch.no_grad():
        before = model(slate, history)
        for record in (slate, history):
            for field in fields(record):
                if record is slate and field.name == "length":
                    continue  # matters to the list block alone
                value = getattr(record, field.name)
                delta = -1 if field.name == "length" else 1
                moved = value + (torch.randn_like(value) if value.is_floating_point() else delta)
                changed = replace(record, **{field.name: moved})
                after = model(changed, history) if record is slate else model(slate, changed)
                assert (after - before).abs().max() > TOLERANCE, field.name
