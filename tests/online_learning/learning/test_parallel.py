"""Two processes step as one with the joint batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from online_learning.online_recipe import Mode
from tests.support import stream

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
import torch
from safetensors.numpy import save_file
from online_learning.learning.learner import Learner
from online_learning.learning.optimisation import Optimisation
from online_learning.learning.parallel import join_group
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from tests.support import stream

torch.set_num_threads(1)
group = join_group()
assert group is not None and group.size == 2
for mode in sys.argv[2:]:
    if group.rank:
        origin = group.broadcast(None)
        tables = ItemTables(origin.tables, Catalog(), origin.encoder)
        learner = Learner(origin.config, tables, stream.RECIPE)
        steps = Optimisation(learner, stream.online(mode=mode, next_item=0.0), group)
        steps.assist()
    else:
        group.broadcast(stream.origin())
        trainer = stream.trainer(parallel=group, mode=mode, next_item=0.0, finetune_ms=30, finetune_steps=2)
        stream.feed(trainer)
        learner, steps = trainer.learner, trainer.optimisation
        steps.dismiss()
    arrays = {name: value.detach().numpy().copy() for name, value in steps.named_dense().items()}
    save_file({**arrays, "ids": learner.items.ids.weight.detach().numpy()}, f"{sys.argv[1]}/{mode}-{group.rank}")
group.close()
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """After the same stream both ranks hold the same weights and rows, and those of a process that did it alone.

    The next-item task is left out: its negatives are those of a process's own share of the batch. Batches of odd
    size, lists without an outcome, new items, a fine-tuning and rows that expire are in. A key's bias moves no score,
    so its gradient is rounding alone, which AdamW blows up: it only has to be the same on both ranks.
    """
    script = tmp_path / "both.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path), *Mode], check=True, cwd=ROOT, timeout=240, env=environment)
    torch.set_num_threads(1)
    for mode in Mode:
        alone = stream.trainer(mode=mode, next_item=0.0, finetune_ms=30, finetune_steps=2)
        stream.feed(alone)
        expected = {name: value.detach().numpy() for name, value in alone.optimisation.named_dense().items()}
        expected["ids"] = alone.learner.items.ids.weight.detach().numpy()
        ranks = [load_file(tmp_path / f"{mode}-{rank}") for rank in range(2)]
        assert set(ranks[0]) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=f"{mode} {name}")
            if not name.endswith("key.bias"):
                np.testing.assert_allclose(ranks[0][name], value, atol=2e-4, err_msg=f"{mode} {name}")
