"""Incremental equals full, batch equals one by one, and what changes an item changes its users' encodings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, ItemVector
from ranker.contracts.schema import Action, CandidateFeature, FeatureSchema, Normalise
from ranker.items.catalog import Catalog
from ranker.items.tables import pack_row
from ranker.registry.bundle import fetch_bundle
from ranker.registry.settings import RegistrySettings
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from tests.support.tiny import ENCODER, ENCODER_WIDTH, tiny_bundle

SCHEMA = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True), Action(name="buy", positive=True, weight=3.0)),
    candidate_features=(CandidateFeature(name="price", normalise=(Normalise.LOG, Normalise.LIST_RANK)),),
    window=8,
)
T0 = 1_700_000_000_000

# What the first session of a process, and then a second one of the same graph, keeps of a large batch.
_SESSIONS = """
import os, sys
from pathlib import Path
from liverank.measure.processes import resident_bytes
from ranker.serving.scorer import open_session

sessions = [open_session(Path(sys.argv[1]), "cpu", 1) for _ in range(2)]
import numpy as np
types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
sizes = {"B": 32, "C": 200, "L": 60, "W": 3}
feed = {
    given.name: np.zeros([sizes.get(size, size) for size in given.shape], types[given.type])
    for given in sessions[0].get_inputs()
}
for session in sessions:
    before = resident_bytes(os.getpid())
    session.run(None, feed)
    print(resident_bytes(os.getpid()) - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    version = tiny_bundle(home, SCHEMA)
    return fetch_bundle(RegistrySettings(address=str(home)), version, home / "local")


@pytest.fixture(scope="module")
def kept(folder: Path) -> Iterator[ServingModel]:
    """A model whose cache lives through all examples of a test."""
    yield load_model(folder, Catalog(), ServingOptions())


def fresh(folder: Path) -> ServingModel:
    return load_model(folder, Catalog(), ServingOptions())


def listed(user: str, items: range) -> UserRow:
    candidates = [Candidate(item_id=f"item-{at}", features={"price": float(at)}) for at in items]
    request = CandidateList(request_id="r", user_id=user, items=candidates, ts=T0)
    return apply_input(EMPTY, request, Position("candidates", 0, 0, T0), SCHEMA)


def acted(row: UserRow, user: str, ts: int, item: int, action: str) -> UserRow:
    offset = row.applied.get("interactions", -1) + 1
    event = Interaction(user_id=user, item_id=f"item-{item}", action=action, ts=T0 + ts, event_id=f"{user}-{offset}")
    return apply_input(row, event, Position("interactions", 0, offset, T0), SCHEMA)


def scores(model: ServingModel, user: str, row: UserRow) -> dict[str, float]:
    ranked = model.rank([(user, row)])[0]
    return dict(zip(ranked.item_ids, ranked.scores, strict=True))


def assert_close(a: dict[str, float], b: dict[str, float]) -> None:
    assert a.keys() == b.keys()
    np.testing.assert_allclose([a[item] for item in a], [b[item] for item in a], atol=1e-4)


events = st.lists(
    st.tuples(st.integers(0, 60_000), st.integers(0, 60), st.sampled_from(["view", "click", "buy"])),
    min_size=1,
    max_size=25,
)


@given(events, st.integers(0, 10**9))
@settings(max_examples=30, deadline=None)
def test_incremental_equals_full(
    kept: ServingModel, folder: Path, history: list[tuple[int, int, str]], run: int
) -> None:
    """Ranking after every event gives at the end what one full pass over the window gives: late events, items that
    nobody has described and windows that have overflown included."""
    user = f"u{run}"
    row = listed(user, range(0, 12))
    for ts, item, action in history:
        row = acted(row, user, ts, item, action)
        step = scores(kept, user, row)
    assert_close(step, scores(fresh(folder), user, row))


def test_the_cache_is_used_and_bounded(folder: Path) -> None:
    """A further event extends what is kept; with room for one user only, the other is encoded from the row again."""
    model = fresh(folder)
    rows = {user: acted(listed(user, range(5)), user, 1, 1, "click") for user in ("u", "v")}
    for user, row in rows.items():
        scores(model, user, row)
    rows["u"] = acted(rows["u"], "u", 2, 2, "click")
    scores(model, "u", rows["u"])
    assert (model.scorer.rebuilt, model.scorer.extended) == (2, 1)
    model.scorer.capacity = 1
    for user in ("u", "v", "u"):
        scores(model, user, rows[user])
    assert len(model.scorer.cache) == 1
    assert model.scorer.rebuilt > 2


def test_lists_of_a_user_share_the_history(folder: Path) -> None:
    """Ranked together each gets what it gets alone; and the history is encoded, and extended, once."""
    row = acted(listed("u", range(5)), "u", 1, 1, "click")
    others = [Candidate(item_id=f"item-{item}") for item in range(3, 10)]
    beside = CandidateList(request_id="beside", user_id="u", items=others, ts=T0 + 5)
    model = fresh(folder)
    for ts in (10, 20):
        row = acted(row, "u", ts, ts % 7, "view")
        if ts == 10:
            row = apply_input(row, beside, Position("candidates", 0, 7, T0), SCHEMA)
        views = [row.of(one) for one in row.current]
        together = model.rank([("u", view) for view in views])
        for view, ranked in zip(views, together, strict=True):
            alone = fresh(folder).rank([("u", view)])[0]
            assert ranked.item_ids == alone.item_ids
            np.testing.assert_allclose(ranked.scores, alone.scores, atol=1e-4)
    assert len(views) == 2
    assert (model.scorer.rebuilt, model.scorer.extended) == (1, 1)
    model.forget("u")
    assert not model._kept


@given(st.lists(events, min_size=2, max_size=5))
@settings(max_examples=15, deadline=None)
def test_batch_equals_one_by_one(folder: Path, histories: list[list[tuple[int, int, str]]]) -> None:
    """Users with lists and histories of different lengths score in a batch as they score alone."""
    rows = []
    for number, history in enumerate(histories):
        row = listed(f"u{number}", range(number, 3 + 4 * number))
        for event in history:
            row = acted(row, f"u{number}", *event)
        rows.append((f"u{number}", row))
    together = fresh(folder).rank(rows)
    alone = fresh(folder)
    for (user, row), ranked in zip(rows, together, strict=True):
        assert_close(dict(zip(ranked.item_ids, ranked.scores, strict=True)), scores(alone, user, row))


@pytest.mark.parametrize(("at_once", "together"), [(1, [1, 1, 1, 1, 1]), (10, [2, 1, 1, 1]), (1000, [5])])
def test_many_are_scored_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, together: list) -> None:
    """Of so many candidates, padding included, or of one user: each gets what it gets alone."""
    rows = [
        (f"u{at}", acted(listed(f"u{at}", range(length)), f"u{at}", at, at, "view"))
        for at, length in enumerate((3, 5, 6, 12, 2))
    ]
    model, parts = fresh(folder), []
    run = model.scorer.run
    monkeypatch.setattr(model.scorer, "run", lambda feed: parts.append(len(feed["candidates"])) or run(feed))
    model.scorer.at_once = at_once
    for (user, row), ranked in zip(rows, model.rank(rows), strict=True):
        assert_close(dict(zip(ranked.item_ids, ranked.scores, strict=True)), scores(fresh(folder), user, row))
    assert parts == together


def test_a_new_vector_of_an_item_reaches_users_who_touched_it(folder: Path) -> None:
    """When an item's text is encoded, the encodings of users with that item in their history are made anew."""
    row = acted(listed("u", range(4)), "u", 1, 77, "click")
    model = fresh(folder)
    before = scores(model, "u", row)
    vector = np.linspace(-1, 1, ENCODER_WIDTH).astype("<f2").tobytes()
    model.catalog.put_vector(ItemVector(item_id="item-77", encoder=ENCODER, text_hash="x", vector=vector))
    after = scores(model, "u", row)
    assert max(abs(after[item] - before[item]) for item in after) > 1e-4
    other = fresh(folder)
    other.catalog.put_vector(ItemVector(item_id="item-77", encoder=ENCODER, text_hash="x", vector=vector))
    assert_close(after, scores(other, "u", row))


def test_a_changed_row_applies_in_place(folder: Path) -> None:
    """A learned row that arrives between bundles changes the item's score at once, and its length is checked."""
    model, row = fresh(folder), listed("u", range(4))
    before = scores(model, "u", row)
    tables = model.tables
    width, neighbours = tables.ids.shape[1], tables.neighbours.shape[1]
    blank = pack_row(np.full(width, 2.0), np.zeros(3), np.zeros(neighbours, np.int64), np.zeros(neighbours))
    tables.put_row(hash_id("item-2"), blank)
    after = scores(model, "u", row)
    assert abs(after["item-2"] - before["item-2"]) > 1e-4
    with pytest.raises(Exception, match="item row of 3 bytes"):
        tables.put_row(hash_id("item-2"), b"abc")


def test_a_withdrawn_item_leaves_the_list(folder: Path) -> None:
    """After a tombstone an item is in no ranking; described again, it is back."""
    model, row = fresh(folder), listed("u", range(4))
    model.catalog.withdraw("item-2")
    assert set(scores(model, "u", row)) == {"item-0", "item-1", "item-3"}
    model.catalog.put(Item(item_id="item-2"))
    assert set(scores(model, "u", row)) == {"item-0", "item-1", "item-2", "item-3"}


def test_weights_combine_the_heads(folder: Path) -> None:
    """The score is the weighted sum of the actions' probabilities, and the order follows it."""
    ranked = fresh(folder).rank([("u", listed("u", range(6)))])[0]
    assert ranked.actions == ("click", "buy")
    for score, (click, buy) in zip(ranked.scores, ranked.probabilities, strict=True):
        assert score == pytest.approx(click + 3 * buy)
    assert ranked.scores.tolist() == sorted(ranked.scores.tolist(), reverse=True)


def test_k_cuts_the_list(folder: Path) -> None:
    """A list that asks for k items gets the best k."""
    row = listed("u", range(6))
    model = fresh(folder)
    whole = model.rank([("u", row)])[0].item_ids
    assert row.candidates is not None
    cut = row.of(msgspec.structs.replace(row.candidates, k=2))
    assert model.rank([("u", cut)])[0].item_ids == whole[:2]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what a process holds")
def test_versions_share_what_they_calculate_in(folder: Path) -> None:
    """Megabytes for the largest batch, once and not with every version that comes and goes."""
    command = [sys.executable, "-c", _SESSIONS, str(folder / "score.onnx")]
    first, second = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(first) > 8e6
    assert int(second) < int(first) / 4
