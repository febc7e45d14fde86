"""Vectors of a catalogue: what a model expects is kept, and nothing else takes memory."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Item, ItemVector
from ranker.items.catalog import Catalog, item_text, text_hash


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


ITEM = Item(item_id="a", title="Alien", category="horror", published_at=5, numeric={"price": 2.0})


@pytest.mark.parametrize(
    ("later", "changes"),
    [
        (ITEM, False),
        (Item(item_id="a", title="Another title", category="horror", published_at=5, numeric={"price": 2.0}), False),
        (Item(item_id="a", category="comedy", published_at=5, numeric={"price": 2.0}), True),
        (Item(item_id="a", category="horror", published_at=6, numeric={"price": 2.0}), True),
        (Item(item_id="a", category="horror", published_at=5, numeric={"price": 3.0}), True),
        (Item(item_id="a", category="horror", published_at=5), True),
    ],
)
def test_a_record_that_says_nothing_new_changes_nothing(later: Item, changes: bool) -> None:
    """A shop that sends all of its catalogue each night makes nobody's encoding anew."""
    catalog = Catalog(("price", "rating"))  # nobody gives a rating: it is no number, and the same each time
    catalog.put(ITEM)
    heard = catalog.listen()
    catalog.put(later)
    assert heard == ({catalog.index_of[hash_id("a")]} if changes else set())


def test_an_item_that_comes_back_as_it_was() -> None:
    """It is ranked again."""
    catalog = Catalog()
    catalog.put(ITEM)
    catalog.withdraw("a")
    catalog.put(ITEM)
    assert not catalog.withdrawn[catalog.index_of[hash_id("a")]]


def test_a_vector_is_wanted_once_for_each_text_and_encoder() -> None:
    """The same one again changes nothing; that of another text takes its place."""
    catalog = Catalog()
    catalog.put(ITEM)
    other = Item(item_id="a", title="Aliens", category="horror")
    assert catalog.wants_vector(ITEM, "e") and not catalog.wants_vector(Item(item_id="a"), "e")
    encoded = ItemVector(
        item_id="a", encoder="e", text_hash=text_hash(item_text(ITEM)), vector=np.ones(4, "<f2").tobytes()
    )
    catalog.put_vector(encoded)
    assert not catalog.wants_vector(ITEM, "e")
    assert catalog.wants_vector(ITEM, "f") and catalog.wants_vector(other, "e")
    heard = catalog.listen()
    catalog.put_vector(encoded)
    assert not heard
    catalog.put_vector(
        ItemVector(item_id="a", encoder="e", text_hash=text_hash(item_text(other)), vector=np.zeros(4, "<f2").tobytes())
    )
    assert heard and not catalog.wants_vector(other, "e") and catalog.wants_vector(ITEM, "e")
