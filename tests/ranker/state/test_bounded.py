"""Caches of so many bytes: what stays, what goes, and how near the estimates of rows and lists come."""

from __future__ import annotations

import tracemalloc

import pytest

from ranker.state.bounded import BoundedCache, row_bytes
from ranker.state.codec import decode_row, encode_row
from ranker.state.row import EVENT, SUMMARY_CELLS, CurrentList, UserRow


def test_what_was_used_longest_ago_goes_when_the_bytes_are_full() -> None:
    """Sizes are what counts, not how many there are."""
    cache: BoundedCache[str, bytes] = BoundedCache(10, len)
    cache.put("a", b"xxxx")
    cache.put("b", b"xxxx")
    assert cache.get("a") == b"xxxx"
    cache.put("c", b"xxx")
    assert ("a" in cache, "b" in cache, "c" in cache, cache.bytes) == (True, False, True, 7)
    assert cache.peek("a") == b"xxxx"
    cache.put("d", b"xxxx")
    assert ("a" in cache, cache.bytes) == (False, 7)
    cache.put("d", b"x")
    assert (cache.bytes, len(cache)) == (4, 2)
    cache.put("huge", b"x" * 50)
    assert (len(cache), cache.bytes) == (1, 50)
    cache.pop("huge")
    cache.pop("huge")
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_is_pinned_stays_and_what_goes_is_told() -> None:
    """A row that is on no disk yet must not be read from there."""
    pinned, gone = {"a"}, []
    cache: BoundedCache[str, bytes] = BoundedCache(2, len, pinned.__contains__, gone.append)
    for name in "abcd":
        cache.put(name, b"x")
    assert (gone, "a" in cache) == (["b", "c"], True)
    pinned.clear()
    cache.put("e", b"x")
    cache.put("f", b"x")
    assert (gone, cache.bytes) == (["b", "c", "a", "d"], 2) or (gone, cache.bytes) == (["b", "c", "d", "a"], 2)


@pytest.mark.parametrize(("items", "lists", "events"), [(100, 3, 64), (100, 1, 64), (1000, 3, 64), (20, 1, 0)])
def test_a_rows_size_is_about_what_its_objects_take(items: int, lists: int, events: int) -> None:
    """Within a third: the budget means what it says."""
    ids = tuple(f"item-{number:06}" for number in range(items))
    listed = tuple(
        CurrentList(1, f"request-{at}", None, {}, ids, ("price", "stars"), bytes(8 * items)) for at in range(lists)
    )
    row = UserRow(
        applied={"clicks": 10**6, "candidates": 10**6}, topics={"clicks": bytes(16), "candidates": bytes(16)},
        events=bytes(EVENT.itemsize * events), summary=bytes(4 * SUMMARY_CELLS), lists=listed,
    )  # fmt: skip
    stored, count = encode_row(row), 200
    decode_row(stored)
    tracemalloc.start()
    try:
        held = [decode_row(stored) for _ in range(count)]
        assert all(len(one.hashes) == items for row in held for one in row.lists)  # which a worker comes to need
        taken = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert 0.75 * taken < row_bytes(held[0]) < 1.33 * taken + 500
