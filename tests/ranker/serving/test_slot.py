"""The slot: who leaves when another model comes."""

from __future__ import annotations

from typing import Any, cast

from ranker.serving.slot import ModelSlot


class Model:
    """Remembers whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        """As `ServingModel.close`."""
        self.closed = True


def test_a_model_leaves_when_nothing_may_go_back_to_it() -> None:
    """What served before stays for a rollback; the one before that leaves, and no longer follows the catalogue."""
    first, second, third, canary = models = [cast(Any, Model()) for _ in range(4)]
    slot = ModelSlot(first)
    assert slot.swap(first) == []
    assert slot.swap(second) == []
    assert slot.set_canary(canary, 0.5) == []
    assert slot.swap(third) == [first]
    assert slot.set_canary(None) == [canary]
    assert slot.swap(second) == []
    assert [model.closed for model in models] == [True, False, False, True]


def test_a_canary_that_is_promoted_stays() -> None:
    """It was loaded already, and is what serves now."""
    first, canary = cast(Any, Model()), cast(Any, Model())
    slot = ModelSlot(first)
    slot.set_canary(canary, 0.5)
    assert slot.swap(canary) == []
    assert (slot.current, slot.previous, slot.canary) == (canary, first, None)
    assert not canary.closed
