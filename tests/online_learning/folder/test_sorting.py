"""Sorting in bounded memory gives what sorting at once gives."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from online_learning.folder.sorting import Keyed, merge_sorted


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 3000))
def test_runs_on_disk_merge_into_one_order(times: list[int], run_bytes: int) -> None:
    """Whatever fits into memory, from one pair to all: the order is that of the keys, and nothing is lost."""
    pairs = [Keyed((ts, "é", number), str(number).encode()) for number, ts in enumerate(times)]
    random.Random(0).shuffle(pairs)
    assert list(merge_sorted(pairs, run_bytes)) == sorted(pairs)
