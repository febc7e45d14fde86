"""What an earlier release wrote is read by this one: `tests/fixtures/format_1` is kept as that release left it.

It holds a bundle of format 1 and what it ranked, rows of version 1 with the inputs that they were folded from, and a
trainer's checkpoint of format 1. Nothing there is ever written anew.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_learning.releases.origins import read_origin
from online_learning.trainer.checkpoint import newest_checkpoint
from online_learning.trainer.state import belongs, capture, restore
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Erasure, Interaction, User
from ranker.items.catalog import Catalog
from ranker.registry.bundle import read_manifest
from ranker.serving.model import load_model
from ranker.serving.options import ServingOptions
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import RowRules, apply_input
from ranker.state.row import EMPTY, EVENT, UserRow
from tests.support import stream

WRITTEN = Path(__file__).parents[1] / "fixtures" / "format_1"
BUNDLE = next((WRITTEN / "models" / "default").iterdir())
RECORDS = {"interactions": Interaction, "candidates": CandidateList, "users": User, "erasures": Erasure}
LINES = [json.loads(line) for line in (WRITTEN / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def stored(line: dict) -> UserRow:
    """The row as it was stored."""
    return decode_row(base64.b64decode(line["stored"]))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["user_id"])
def test_rows(line: dict) -> None:
    """A stored row of version 1 is what its inputs fold to today, but for what it did not hold: the list that an event
    names, and the time of attributes. Its events have the names of today, so they are known when they come again."""
    schema, row = read_manifest(BUNDLE).schema, EMPTY
    for given in line["inputs"]:
        record = msgspec.convert(given["record"], RECORDS[given["topic"]])
        at = Position(given["topic"], given["partition"], given["offset"], 0)
        row = apply_input(row, record, at, schema, RowRules(lists=1))
    before, events = stored(line), np.frombuffer(row.events, EVENT).copy()
    events["list"] = 0
    unknown = {"events": events.tobytes(), "attributes_ts": before.attributes_ts, "summary": b""}
    assert msgspec.structs.replace(row, **unknown) == msgspec.structs.replace(before, summary=b"")
    np.testing.assert_allclose(before.long_term(), row.long_term(), rtol=1e-4, atol=1e-6)
    assert decode_row(encode_row(before)) == before


def test_a_bundle_ranks_as_it_did() -> None:
    """It is checked, loads, and gives the rows' lists the order and the scores that it gave when it was written."""
    model = load_model(BUNDLE, Catalog(), ServingOptions())
    expected = json.loads((WRITTEN / "rankings.json").read_text(encoding="utf-8"))
    rows = {line["user_id"]: stored(line) for line in LINES if stored(line).candidates is not None}
    assert set(rows) == set(expected)
    for user_id, ranked in zip(rows, model.rank(list(rows.items())), strict=True):
        assert ranked.item_ids == list(expected[user_id])
        assert dict(zip(ranked.item_ids, ranked.scores, strict=True)) == pytest.approx(expected[user_id], abs=1e-4)


def test_a_trainer_starts_from_a_bundle() -> None:
    """Every weight is found under its name, and every item row."""
    origin = read_origin(BUNDLE)
    assert origin.version == BUNDLE.name
    assert read_manifest(BUNDLE).schema_hash == origin.schema.full_hash != origin.schema.hash
    assert set(origin.weights) == set(stream.tiny_model(origin.schema).state_dict())
    assert len(origin.tables.items) == 20


def test_a_trainer_goes_on_from_a_checkpoint() -> None:
    """Taken up, it is what was written; and it learns on."""
    state = newest_checkpoint(WRITTEN / "trainer")
    assert state is not None
    trainer = stream.trainer()
    restore(trainer, state)
    again = capture(trainer)
    assert belongs(trainer, state)
    assert again.facts.pop("since_starter") is None  # what was not written: it goes on at its own pace
    assert again.facts.pop("returned") is None
    assert {anchor["version"] for anchor in again.facts.pop("anchors").values()} == {trainer.versions.serving.version}
    again.facts["refused"] = again.arrays.pop("refused").tolist()  # as hashes, which name nobody
    assert again.facts | {"model": state.facts["model"]} == state.facts  # whose hash was of the weights too
    since = {name for name in again.arrays if name.startswith("dense.model.words.")}  # that release read no words
    assert set(again.arrays) - since == set(state.arrays)
    assert again.arrays["dense.model.words.strength"].tolist() == trainer.origin.weights["words.strength"].tolist()
    by_item = {name for name in state.arrays if name.startswith(("rows.", "moved."))}
    for name in set(state.arrays) - by_item:
        near = 1e-6 if name == "counts.count" else 0.0  # float32 since
        np.testing.assert_allclose(again.arrays[name], state.arrays[name], rtol=near, atol=0, err_msg=name)
    assert state.replay
    assert list(again.replay) == state.replay
    assert set(again.arrays["rows.items"].tolist()) == set(state.arrays["rows.items"].tolist())
    done = trainer.learn(stream.examples(10, seed=3), 10**6)
    assert done.trained > 0
    assert trainer.trained == state.facts["trained"] + done.trained
