"""Whose work is next, and what is still to be done."""

from __future__ import annotations

from streams.pipeline.turns import Turns


def taken(turns: Turns[str]) -> list[str]:
    found = []
    while (work := turns.take()) is not None:
        found.append(work)
    return found


def test_users_take_turns() -> None:
    """Each user's work in its order, one piece of each at a time: who brings much waits for himself."""
    turns: Turns[str] = Turns()
    for number in range(4):
        turns.add(b"hot", f"hot {number}")
    turns.add(b"a", "a 0")
    turns.add(b"b", "b 0")
    turns.add(b"a", "a 1")
    assert len(turns) == 7
    assert taken(turns) == ["hot 0", "a 0", "b 0", "hot 1", "a 1", "hot 2", "hot 3"]
    assert len(turns) == 0


def test_what_was_added_by_then_is_waited_for_and_nothing_after() -> None:
    """Also where later work of others was done before it, and while it is in work."""
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.add(b"hot", f"hot {number}")
    by_then = turns.number
    turns.add(b"later", "later")
    assert [turns.take(), turns.take(), turns.take()] == ["hot 0", "later", "hot 1"]
    assert turns.holds(by_then)
    assert turns.take() == "hot 2"
    assert turns.holds(by_then), "it is in work"
    turns.add(b"hot", "hot 3")
    turns.done()
    assert not turns.holds(by_then)
    assert turns.holds(turns.number)
