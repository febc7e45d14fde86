"""What examples count is counted once, however many users there are and however long somebody was away."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_learning.counting.example_counts import ExampleCounts
from online_learning.counting.former_users import CELLS, LINES, FormerUsers
from ranker.contracts.ids import hash_id
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.codec import decode_row
from tests.support import stream
from tests.support.tiny import ENCODER, tiny_model, tiny_tables


def counts(limit: int) -> ExampleCounts:
    """Of no item yet."""
    tables = ItemTables(tiny_tables(tiny_model(stream.SCHEMA).config, []), Catalog(), ENCODER)
    return ExampleCounts(tables, 0, limit)


def statistics(counted: ExampleCounts) -> list[list[float]]:
    """How often each item was shown, chosen and touched."""
    tables = counted.items.tables
    tables.sync()
    return [tables.statistics[tables.catalog.add(hash_id(f"item-{at}"))].tolist() for at in range(30)]


def test_a_user_who_comes_back_is_not_counted_again() -> None:
    """With memory for a few users the counts are those of one for all, also where half way all is written down."""
    examples = stream.examples(400, users=60)
    assert max(len(decode_row(example.state).events) for example in examples) > 0
    everyone, few = counts(1000), counts(5)
    lists = few._lists  # those are bounded by the same number, and are not what is asked here
    for number, example in enumerate(examples):
        row = decode_row(example.state)
        everyone.learn(example, row)
        few.learn(example, row)
        if number == 200:
            written = few.state() | {"lists": np.zeros(0, np.int64)}
            again = ExampleCounts(few.items.tables, 0, 5)
            again.restore(written, 0)
            few, again._lists = again, lists
    assert len(few.state()["users"]) == 5
    touched = [[line[2] for line in statistics(one)] for one in (everyone, few)]
    assert touched[0] == touched[1]
    for name, array in everyone.items.transitions().items():
        np.testing.assert_array_equal(np.sort(array), np.sort(few.items.transitions()[name]), err_msg=name)


@given(st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 41)), max_size=50))
def test_nobody_is_given_an_earlier_time(put: list[tuple[int, int]]) -> None:
    """What was counted would be counted again."""
    former = FormerUsers()
    latest: dict[int, int] = {}
    for user, ts in put:
        former.put(user, ts)
        latest[user] = max(ts, latest.get(user, 0))
    again = FormerUsers()
    again.restore(former.state())
    for user, ts in latest.items():
        assert ts <= again.until(user) == former.until(user)


def test_how_often_somebody_new_is_taken_for_somebody_else() -> None:
    """As the docs say, for a hundred thousand users beyond those remembered; the times of those are their own."""
    former, count, asked = FormerUsers(), 100_000, 4000
    users = np.random.default_rng(0).integers(-(1 << 63), (1 << 63) - 1, count + asked)
    for user in users[:count].tolist():
        former.put(user, 1_700_000_000_000)
    mistaken = sum(former.until(user) > 0 for user in users[count:].tolist()) / asked
    assert mistaken < 1.5 * (1 - np.exp(-count / CELLS)) ** LINES < 0.02
    state = former.state()
    assert state is not None
    assert state.nbytes == 4 << 20
