"""A compact set is a set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from online_learning.data.hash_set import HashSet

HASHES = st.integers(-3, 3) | st.sampled_from([-(1 << 63), (1 << 63) - 1])


@given(st.lists(st.tuples(st.booleans(), st.lists(HASHES, max_size=4)), max_size=30), st.integers(0, 5))
def test_it_holds_what_a_set_holds(steps: list[tuple[bool, list[int]]], fresh: int) -> None:
    """One by one or several at once, sorted in early or late: what is new, what is in it, and how many."""
    compact, plain = HashSet(fresh), set[int]()
    for at_once, numbers in steps:
        if at_once:
            compact.update(numbers)
            plain |= set(numbers)
        else:
            for number in numbers:
                assert compact.add(number) == (number not in plain)
                plain.add(number)
        assert all((number in compact) == (number in plain) for number in (*numbers, 7, -(1 << 63)))
    assert len(compact) == len(plain)
