"""Vectors of a catalogue: what a model expects is kept, and nothing else takes memory."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import ItemVector
from ranker.items.catalog import Catalog


def vector(item: str, width: int, encoder: str = "e") -> ItemVector:
    return ItemVector(item_id=item, encoder=encoder, text_hash="h", vector=np.ones(width, "<f2").tobytes())


def test_the_first_vector_does_not_say_how_wide_the_others_are() -> None:
    """A model does: a stray one that came before is forgotten, and one that comes later is refused."""
    catalog = Catalog()
    catalog.put_vector(vector("stray", 3))
    catalog.expect("e", 4)
    with pytest.raises(InvalidRecord, match="3 numbers from e; it gives 4"):
        catalog.put_vector(vector("stray", 3))
    catalog.put_vector(vector("a", 4))
    assert catalog.vectors["e"].shape[1] == 4


def test_encoders_that_no_model_names_take_no_memory() -> None:
    """Whoever invents encoders fills nothing."""
    catalog = Catalog()
    catalog.expect("e", 4)
    for number in range(50):
        catalog.put_vector(vector("a", 4000, f"invented-{number}"))
    assert catalog.vectors == {}
    assert catalog.count == 1
