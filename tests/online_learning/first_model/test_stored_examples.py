"""What is stored of an example is all that is learned from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.data.on_disk import TemporaryFileError
from online_learning.first_model.stored_examples import StoredExamples, packed, unpacked
from online_learning.learning.learner import Learner, TrainingExample, training_example
from online_learning.learning.objective import Targets
from ranker.contracts.ids import hash_id
from ranker.features.names import WORD_FEATURES
from ranker.features.user import UserInputs
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from tests.support import stream
from tests.support.tiny import ENCODER, tiny_model, tiny_tables


def test_batches_from_disk_are_those_made_directly() -> None:
    """Examples with co-visitation, unknown items, no choice and histories of all lengths: each array is the same."""
    tables = ItemTables(tiny_tables(tiny_model(stream.SCHEMA).config, []), Catalog(), ENCODER)
    for item in range(20):  # the others stay unknown
        tables.catalog.add(hash_id(f"item-{item}"))
    tables.sync()
    rng = np.random.default_rng(0)
    tables.neighbours[1:21] = tables.catalog.hashes[rng.integers(1, 21, tables.neighbours[1:21].shape)]
    tables.strengths[1:21] = rng.random(tables.strengths[1:21].shape)
    direct = [training_example(one, tables, stream.SCHEMA) for one in stream.examples(60)]
    stored = StoredExamples()
    for example in direct:
        stored.append(example)
    learner = Learner(tiny_model(stream.SCHEMA).config, tables, stream.RECIPE)
    assert stored.lengths.tolist() == [len(one.inputs.history) for one in direct]
    assert any(one.chosen is None for one in direct)
    assert any(one.inputs.covisit.any() for one in direct)
    order = rng.permutation(len(direct)).tolist()
    for start in range(0, len(direct), 7):
        some = order[start : start + 7]
        found, wanted = stored.batch(some), [direct[place] for place in some]
        made, expected = (learner.collate([one.inputs for one in batch]) for batch in (found, wanted))
        targets = zip(Targets.of(found), Targets.of(wanted), strict=True)
        for got, right in [*((made[name], expected[name]) for name in expected), *targets]:
            assert got.dtype == right.dtype
            assert got.equal(right)


FLOATS = st.floats(width=32, allow_nan=False)
STRENGTHS = st.floats(0, 1, width=32)


@st.composite
def examples(draw: st.DrawFn) -> TrainingExample:
    """An example of any sizes, with values at the edges of their types."""
    events, candidates, features, context, texts = (draw(st.integers(low, 4)) for low in (0, 1, 0, 0, 0))

    def whole(size: int, low: int, high: int) -> np.ndarray:
        return np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size)), np.int64)

    def real(*shape: int, of: st.SearchStrategy[float] = FLOATS) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(of, min_size=size, max_size=size)), np.float32).reshape(shape)

    hashes, most = (-(1 << 63), (1 << 63) - 1), (1 << 31) - 1
    inputs = UserInputs(
        events=b"", history=whole(events, 0, most), hist_item=whole(events, *hashes), action=whole(events, 0, 255),
        gap=real(events), value=real(events), age=real(events), hist_pos=whole(events, -1, most),
        candidates=whole(candidates, 0, most), cand_item=whole(candidates, *hashes),
        features=real(candidates, features), covisit=real(candidates, events, of=STRENGTHS), context=real(context),
        said=real(candidates, texts), words=real(texts, len(WORD_FEATURES)),
    )  # fmt: skip
    chosen = draw(st.none() | st.integers(0, candidates - 1))
    return TrainingExample(inputs, chosen, draw(st.integers(0, 3)))


@given(examples())
def test_packing_loses_nothing(example: TrainingExample) -> None:
    """Every array comes back in its shape and type, ready to be written to; so does what was chosen."""
    found = unpacked(packed(example))
    assert (found.chosen, found.head) == (example.chosen, example.head)
    for name in UserInputs.__struct_fields__:
        wanted, got = getattr(example.inputs, name), getattr(found.inputs, name)
        if name != "events":
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            assert got.tobytes() == wanted.tobytes()
            assert got.flags.writeable and got.flags.aligned


def test_a_full_disk_is_one_sentence() -> None:
    """Where there is no room, the error says what to set."""
    stored = StoredExamples()
    stored._table._rows.execute("PRAGMA max_page_count = 4")
    tables = ItemTables(tiny_tables(tiny_model(stream.SCHEMA).config, []), Catalog(), ENCODER)
    made = [training_example(one, tables, stream.SCHEMA) for one in stream.examples(60)]
    with pytest.raises(TemporaryFileError, match=r"full.*set TMPDIR"):
        for example in made * 10:
            stored.append(example)
