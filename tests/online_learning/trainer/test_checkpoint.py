"""A checkpoint is whole or it is none."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from online_learning.learning.replay_buffer import Remembered
from online_learning.trainer.checkpoint import (
    CheckpointError,
    TrainerState,
    load_checkpoint,
    newest_checkpoint,
    next_number,
    save_checkpoint,
)


def state(number: int) -> TrainerState:
    """A state that can be told from others."""
    arrays = {"a": np.arange(number, dtype=np.float32), "step": np.array(number), "none": np.zeros((0, 3), np.int64)}
    replay = [Remembered(f"user-{at}", at, b"x" * at, b"", b"\x00") for at in range(number)]
    return TrainerState(arrays=arrays, facts={"number": number, "rng": {"state": 2**127 + number}}, replay=replay)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Values, shapes and types, a number without dimensions and an empty table among them."""
    save_checkpoint(tmp_path, 7, state(5))
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.facts == state(5).facts
    assert found.replay == state(5).replay
    for name, array in state(5).arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """And their numbers go on rising."""
    assert newest_checkpoint(tmp_path / "nothing") is None
    for number in range(1, 6):
        assert next_number(tmp_path) == number
        save_checkpoint(tmp_path, number, state(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000000000004", "checkpoint-000000000005"]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_a_torn_one_is_passed_over(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any file of the newest cut at any byte, changed in any byte, or gone: the one before it is used."""
    folder = tmp_path_factory.mktemp("torn")
    save_checkpoint(folder, 1, state(1))
    newest = save_checkpoint(folder, 2, state(2))
    path = newest / data.draw(st.sampled_from(["state.safetensors", "replay.msgpack", "state.json"]))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "gone"])):
        case "cut":
            path.write_bytes(content[:at])
        case "flip" if path.suffix != ".json":
            path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        case _:
            path.unlink()
    with pytest.raises(CheckpointError):
        load_checkpoint(newest)
    found = newest_checkpoint(folder)
    assert found is not None
    assert found.facts["number"] == 1


def test_what_is_remembered_is_not_copied_to_be_written(tmp_path: Path) -> None:
    """It is nearly all of a state: a trainer holds it once, also while it writes."""
    entries = [Remembered(f"user-{at}", at, bytes(20_000)) for at in range(1000)]
    tracemalloc.start()
    try:
        path = save_checkpoint(tmp_path, 1, TrainerState(arrays={}, facts={}, replay=entries))
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert load_checkpoint(path).replay == entries


@pytest.mark.parametrize("number", [0, 3])
def test_a_checkpoint_of_another_format_is_named(tmp_path: Path, number: int) -> None:
    """One of a later release is not half understood."""
    path = save_checkpoint(tmp_path, 1, state(1))
    facts = json.loads((path / "state.json").read_bytes())
    (path / "state.json").write_text(json.dumps({**facts, "format": number}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"is of format {number}; this release reads 1 to 2"):
        load_checkpoint(path)


def test_what_was_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    """A process killed while it wrote leaves a hidden folder, which nobody reads and the next one replaces."""
    save_checkpoint(tmp_path, 1, state(1))
    half = tmp_path / ".checkpoint-000000000002.tmp"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.facts["number"] == 1
    save_checkpoint(tmp_path, 2, state(2))
    assert not half.exists()
