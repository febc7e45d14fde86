"""One step: how far it moves what, whatever the size of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from online_learning.learning.learner import training_example
from ranker.contracts.ids import hash_id
from tests.support import stream


def moved(share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How far one step at this share of a full batch moves a dense weight, its average, and the item rows."""
    torch.manual_seed(1)
    trainer = stream.trainer(averaging=0.9)
    optimisation = trainer.optimisation
    name, weight = next((name, w) for name, w in optimisation.named_dense().items() if "outcomes" in name)
    rows = trainer.learner.items.ids.weight
    before, rows_before = weight.detach().clone(), rows.detach().clone()
    made = stream.examples(8)
    for item in {item for example in made for item in stream.items_of(example)}:
        trainer.catalog.add(hash_id(item))
    trainer.learner.tables.sync()
    batch = [training_example(example, trainer.learner.tables, trainer.schema) for example in made]
    stepped = optimisation.step(batch, share=share)
    assert stepped.finite
    rows = trainer.learner.items.ids.weight
    grown = rows.detach()[: len(rows_before)] - rows_before
    return weight.detach() - before, optimisation.average[name] - before, grown


def test_a_part_of_a_batch_is_a_part_of_a_step_for_dense_weights_alone() -> None:
    """A quarter of a batch moves a dense weight a quarter as far and each item's row as far as ever; the average of
    dense weights takes in that quarter step with the weight that makes four of them as much as one full step."""
    (whole, whole_average, whole_rows), (part, part_average, part_rows) = moved(1.0), moved(0.25)
    assert float(whole.abs().max()) > 0
    torch.testing.assert_close(part, whole / 4, rtol=1e-3, atol=5e-8)
    torch.testing.assert_close(whole_average, whole * (1 - 0.9), rtol=1e-3, atol=5e-8)
    torch.testing.assert_close(part_average, part * (1 - 0.9**0.25), rtol=1e-3, atol=5e-8)
    assert float(whole_rows.abs().max()) > 0
    torch.testing.assert_close(part_rows, whole_rows)


@pytest.mark.parametrize("at_once", [1, 8])
def test_how_many_came_at_once_is_the_share_of_the_step(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer steps by what the stream brought: remembered examples beside it make no step larger."""
    trainer, shares = stream.trainer(batch=32, replayed=2.0), []
    step = trainer.optimisation.step
    monkeypatch.setattr(trainer.optimisation, "step", lambda *a, **k: shares.append(k["share"]) or step(*a, **k))
    made = stream.examples(20)[:16]
    for start in range(0, 16, at_once):
        trainer.learn(made[start : start + at_once], 0)
    assert np.allclose(shares, at_once / 32)
    assert len(shares) == 16 / at_once
