"""What a user typed, as numbers of a list: who is like it, and how much it is still worth."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, ItemVector
from ranker.contracts.schema import FeatureSchema
from ranker.features.batch import list_arrays
from ranker.features.list import list_inputs
from ranker.features.names import WORD_FEATURES
from ranker.features.user import UserInputs, user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import EncodedText, quantised
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_config, tiny_tables

SCHEMA = FeatureSchema(window=8)
T0 = 1_700_000_000_000
ITEMS = ("war", "love", "both", "unread")


def axis(*weights: float) -> np.ndarray:
    """A vector with these numbers first."""
    return np.array([*weights, *[0.0] * (ENCODER_WIDTH - len(weights))], np.float32)


@pytest.fixture(scope="module")
def tables() -> ItemTables:
    """Items of which one is like one text, one like another, one like both; of one no text is known."""
    catalog = Catalog()
    made = ItemTables(tiny_tables(tiny_config(SCHEMA), []), catalog, ENCODER)
    for item, vector in zip(ITEMS, (axis(1, 0), axis(0, 1), axis(1, 1)), strict=False):
        catalog.put(Item(item_id=item))
        encoded = vector.astype("<f2").tobytes()
        catalog.put_vector(ItemVector(item_id=item, encoder=ENCODER, text_hash="", vector=encoded))
    catalog.put(Item(item_id="unread"))
    made.sync()
    return made


def row_of(*texts: tuple[int, np.ndarray], encoder: str = ENCODER, clicks: tuple[int, ...] = ()) -> UserRow:
    """Somebody who looks at the list and has typed these, at these seconds."""
    listed = CandidateList(
        request_id="r", user_id="u", ts=T0, items=[Candidate(item_id=item) for item in ITEMS], expires_at=T0 + 10**12
    )
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), SCHEMA)
    events = [
        Interaction(user_id="u", item_id="x", action="view", event_id=f"c{ts}", ts=T0 + 1000 * ts) for ts in clicks
    ]
    for offset, (ts, vector) in enumerate(texts):
        typed = Interaction(user_id="u", action="search", event_id=f"t{offset}", ts=T0 + 1000 * ts, text="words")
        at, found = Position("interactions", 0, offset, T0), EncodedText(encoder, quantised(vector))
        row = apply_input(row, typed, at, SCHEMA, typed=found)
    for offset, event in enumerate(events):
        row = apply_input(row, event, Position("views", 0, offset, T0), SCHEMA)
    return row


def inputs_of(row: UserRow, tables: ItemTables) -> UserInputs:
    return user_inputs(row, list_inputs(row, tables.catalog, SCHEMA), tables, SCHEMA)


def named(inputs: UserInputs, feature: str) -> list[float]:
    return inputs.words[:, WORD_FEATURES.index(feature)].tolist()


def test_who_is_more_like_the_text_stands_above_the_list(tables: ItemTables) -> None:
    """Deviations from the list's mean: they add up to none, and an item without a text is as like as any."""
    said = inputs_of(row_of((1, axis(1, 0))), tables).said[:, 0]
    assert said[0] > said[2] > 0 > said[1]
    assert said[3] == 0
    assert said[:3].sum() == pytest.approx(0, abs=1e-5)


def test_the_length_of_a_vector_says_nothing(tables: ItemTables) -> None:
    """Directions are compared, so encoders need not give unit vectors."""
    one, other = (inputs_of(row_of((1, scale * axis(1, 0.2))), tables).said for scale in (0.01, 100))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_text_that_all_are_as_like_moves_none(tables: ItemTables) -> None:
    """What has to do with no item of the list."""
    np.testing.assert_allclose(inputs_of(row_of((1, axis(0, 0, 0, 1))), tables).said, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "vector"), [("another", axis(1, 0)), (ENCODER, np.ones(7, np.float32)), (ENCODER, axis())]
)
def test_other_vectors_are_not_read(tables: ItemTables, encoder: str, vector: np.ndarray) -> None:
    """Of another encoder, of another width, of none: as if nothing had been typed."""
    inputs = inputs_of(row_of((1, vector), encoder=encoder), tables)
    assert inputs.said.shape == (len(ITEMS), 0)
    assert inputs.words.shape == (0, len(WORD_FEATURES))


def test_each_later_text_takes_from_what_an_earlier_is_worth(tables: ItemTables) -> None:
    """Turn by turn the newest counts most; the feature without turns has them alike."""
    inputs = inputs_of(row_of((1, axis(1)), (1, axis(0, 1)), (1, axis(1, 1))), tables)
    assert named(inputs, "hour") == pytest.approx([0.49, 0.7, 1.0])
    assert named(inputs, "day") == pytest.approx([1.0, 1.0, 1.0])


def test_time_and_events_take_from_a_text(tables: ItemTables) -> None:
    """An hour halves it, five minutes do by another measure, and each event since."""
    inputs = inputs_of(row_of((0, axis(1)), clicks=(10, 20, 3600)), tables)
    assert named(inputs, "hour") == pytest.approx([0.5])
    assert named(inputs, "five_minutes") == pytest.approx([0.5**12])
    assert named(inputs, "events_since") == pytest.approx([0.5 * np.exp(-1)])
    assert named(inputs, "about_item") == [0.0]


def test_users_without_words_are_padded_by_zeros(tables: ItemTables) -> None:
    """Beside one who has typed, one who has not says nothing; alone, the axis is one long, since graphs want one."""
    silent, typed = inputs_of(row_of(), tables), inputs_of(row_of((1, axis(1)), (2, axis(0, 1))), tables)
    both, alone = list_arrays([silent, typed], tables, 1), list_arrays([silent], tables, 1)
    assert both["said"].shape == (2, len(ITEMS), 2)
    np.testing.assert_array_equal(both["said"][1], typed.said)
    np.testing.assert_array_equal(both["words"][1], typed.words)
    assert not both["said"][0].any()
    assert not both["words"][0].any()
    assert (alone["said"].shape, alone["words"].shape) == ((1, len(ITEMS), 1), (1, 1, len(WORD_FEATURES)))
