"""What lies on disk is what was put there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from online_learning.data.log_fold import Fold
from online_learning.data.on_disk import DiskTable, SpillingDict
from tests.support import stream


@given(st.lists(st.tuples(st.sampled_from("abcdefgé"), st.none() | st.integers(0, 1 << 40)), max_size=60))
def test_a_dictionary_that_spills_is_a_dictionary(steps: list[tuple[str, int | None]]) -> None:
    """Puts and gets in any order, with one to two values in memory: each key has its newest value, or none."""
    spilling = SpillingDict(lambda number: str(number).encode(), int, held=1)
    plain: dict[str, int] = {}
    for key, number in steps:
        if number is None:
            assert spilling.get(key) == plain.get(key)
        else:
            spilling.put(key, number)
            plain[key] = number
    assert {key: spilling.get(key) for key in plain} == plain


def test_a_table_takes_every_key_and_value() -> None:
    """The largest and smallest keys, empty values, and ones longer than a page; the newest of a key holds."""
    table = DiskTable()
    pairs = {-(1 << 63): b"", (1 << 63) - 1: bytes(1 << 20), 0: b"old"}
    table.put(pairs.items())
    table.put([(0, b"new")])
    assert [table.get(key) for key in (*pairs, 1)] == [b"", bytes(1 << 20), b"new", None]


def test_rows_on_disk_fold_as_rows_in_memory() -> None:
    """A log of more users than are held: before and after each record the row is the same."""
    few, all_held = Fold(stream.SCHEMA, held=2), Fold(stream.SCHEMA)
    for record in stream.records(80):
        assert few.apply(record) == all_held.apply(record)
