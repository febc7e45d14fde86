"""The reservoir is bounded, forgets nobody unfairly, and forgets whom it is told to."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_learning.learning.learner import training_example
from online_learning.learning.replay_buffer import Remembered, ReplayBuffer, remember, restored
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from tests.support import stream
from tests.support.tiny import ENCODER, tiny_model, tiny_tables


def entry(number: int) -> Remembered:
    """An entry that can be told from others."""
    return Remembered(f"user-{number % 5}", number, str(number).encode())


@given(st.integers(0, 20), st.integers(0, 60), st.integers(0, 30), st.integers(0, 2**32))
def test_it_is_bounded_and_samples_without_replacement(capacity: int, added: int, asked: int, seed: int) -> None:
    """Never more than its capacity; a sample holds nothing twice, and only what was added."""
    buffer = ReplayBuffer(capacity, np.random.default_rng(seed))
    for number in range(added):
        buffer.add(entry(number))
        assert len(buffer) <= capacity
    assert len(buffer) == min(capacity, added)
    sample = [one.ts for one in buffer.sample(asked)]
    assert len(sample) == min(asked, len(buffer)) == len(set(sample))
    assert set(sample) <= set(range(added))


def test_old_ones_survive_as_often_as_new_ones() -> None:
    """Over many seeds every addition is held with probability capacity / additions, whatever its age."""
    held = np.zeros(100)
    for seed in range(600):
        buffer = ReplayBuffer(20, np.random.default_rng(seed))
        for number in range(100):
            buffer.add(entry(number))
        for one in buffer.entries:
            held[one.ts] += 1
    share = held / 600
    assert abs(share.mean() - 0.2) < 1e-9
    # Four standard deviations of a share of 600 draws, for each tenth of the ages and for each addition.
    assert np.abs(share.reshape(10, 10).mean(axis=1) - 0.2).max() < 4 * (0.2 * 0.8 / 6000) ** 0.5
    assert np.abs(share - 0.2).max() < 4.5 * (0.2 * 0.8 / 600) ** 0.5


def test_the_same_seed_holds_the_same() -> None:
    """Everything random comes from the generator that was passed in."""
    held = []
    for _ in range(2):
        buffer = ReplayBuffer(5, np.random.default_rng(3))
        for number in range(40):
            buffer.add(entry(number))
        held.append([one.ts for one in buffer.entries])
    assert held[0] == held[1]


def test_a_smaller_room_holds_a_sample_of_what_was_held() -> None:
    """Restored with a smaller capacity it is bounded by that, then and later, and holds nothing twice."""
    large, small = (ReplayBuffer(capacity, np.random.default_rng(1)) for capacity in (30, 7))
    for number in range(50):
        large.add(entry(number))
    small.restore(large.seen, large.entries)
    held = {one.ts for one in small.entries}
    assert len(held) == len(small) == 7
    assert held <= {one.ts for one in large.entries}
    for number in range(50, 200):
        small.add(entry(number))
        assert len(small) == 7


def test_forgetting_takes_out_all_of_a_user() -> None:
    """And nothing of anyone else."""
    buffer = ReplayBuffer(50, np.random.default_rng(0))
    for number in range(40):
        buffer.add(entry(number))
    assert buffer.forget(lambda one: one.user_id == "user-2") == 8
    assert len(buffer) == 32
    assert all(one.user_id != "user-2" for one in buffer.entries)


def test_what_is_recalled_has_the_features_it_had() -> None:
    """Co-visitation is that of the moment, although the tables have counted the example's own outcome since."""
    config = tiny_model(stream.SCHEMA).config
    items = [f"item-{at}" for at in range(30)]
    tables = ItemTables(tiny_tables(config, items), Catalog(), ENCODER)
    for example in stream.examples(30):
        then = training_example(example, tables, stream.SCHEMA)
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(remember(example, then.inputs)), type=Remembered)
        tables.strengths[:] = 0.77
        again = restored(kept, tables, stream.SCHEMA)
        for name in then.inputs.__struct_fields__:
            ours, theirs = getattr(then.inputs, name), getattr(again.inputs, name)
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert (again.chosen, again.head) == (then.chosen, then.head)
        tables.strengths[:] = 0.5
