"""The fold: whatever order inputs come in, however often, the row is the same."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contracts.errors import RowError
from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Erasure, Interaction, User
from ranker.contracts.schema import CandidateFeature, FeatureSchema
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, EVENT, UserRow

SCHEMA = FeatureSchema(window=8)
T0 = 1_700_000_000_000


def click(event_id: str, ts: int, item: str = "a", action: str = "click") -> Interaction:
    return Interaction(user_id="u", item_id=item, action=action, event_id=event_id, ts=T0 + ts)


def candidates(request_id: str, ts: int, items: tuple[str, ...] = ("a", "b")) -> CandidateList:
    listed = [Candidate(item_id=item, score=1.0) for item in items]
    return CandidateList(request_id=request_id, user_id="u", items=listed, ts=T0 + ts)


def folded(inputs: list[tuple[str, int, object]]) -> UserRow:
    row = EMPTY
    for topic, offset, record in inputs:
        row = apply_input(row, record, Position(topic, 0, offset, T0), SCHEMA)
    return row


def assert_same(a: UserRow, b: UserRow) -> None:
    """Equal, the summary to rounding."""
    np.testing.assert_allclose(a.long_term(), b.long_term(), rtol=1e-4, atol=1e-6)
    assert msgspec.structs.replace(a, summary=b"") == msgspec.structs.replace(b, summary=b"")


@st.composite
def logs(draw: st.DrawFn) -> dict[str, list[object]]:
    """Per topic a list of records: events with ids that repeat within the window, lists, an erasure, attributes."""
    times = st.integers(0, 40_000)
    clicks = draw(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcd")), max_size=7))
    # An event keeps its time and item wherever it comes again: it is the same event.
    by_id = {number: (draw(times), item) for number, item in clicks}
    views = draw(st.lists(st.integers(7, 13), max_size=7))
    view_times = {number: draw(times) for number in views}
    lists = draw(st.lists(st.tuples(times, st.sampled_from(["r1", "r2", "r3"])), max_size=4, unique=True))
    return {
        "clicks": [click(f"e{number}", *by_id[number]) for number, _ in clicks],
        "views": [click(f"e{number}", view_times[number], "z", "view") for number in views],
        "candidates": [candidates(request, ts, ("a", request)) for ts, request in lists],
        "users": [User(user_id="u", attributes={"n": float(n)}) for n in draw(st.lists(st.integers(0, 3), max_size=2))],
    }


@given(logs(), st.randoms(use_true_random=False))
def test_any_interleaving_gives_the_same_row(log: dict[str, list[object]], random: object) -> None:
    """Topics keep their own order; across topics any order, with anything delivered again, folds to the same row."""
    inputs = [(topic, offset, record) for topic, records in log.items() for offset, record in enumerate(records)]
    straight = folded(inputs)
    waiting = {topic: list(enumerate(records)) for topic, records in log.items() if records}
    shuffled: list[tuple[str, int, object]] = []
    while waiting:
        topic = random.choice(sorted(waiting))
        shuffled.append((topic, *waiting[topic].pop(0)))
        if not waiting[topic]:
            del waiting[topic]
        if random.random() < 0.3:
            shuffled.append(random.choice(shuffled))
    # ids e0..e6 and e7..e13 may not all fit into the window of 8, so counts of repeats are compared where they do
    distinct = {record.event_id for _, _, record in inputs if isinstance(record, Interaction)}
    if len(distinct) <= SCHEMA.window:
        assert_same(folded(shuffled), straight)
    else:
        assert folded(shuffled).events == straight.events
        assert folded(shuffled).candidates == straight.candidates


@given(st.permutations(range(30)))
def test_history_is_the_newest_events_in_any_order(order: list[int]) -> None:
    """The window holds the newest events by time, and the list is the newest list, whatever came first."""
    row = EMPTY
    for offset, number in enumerate(order):
        row = apply_input(row, click(f"e{number}", number), Position("clicks", 0, offset, T0), SCHEMA)
    kept = np.frombuffer(row.events, EVENT)["id"].tolist()
    assert kept == [hash_id(f"e{number}") for number in range(22, 30)]
    assert row.count == row.revision == len(order)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40, unique=True), st.integers(0, 50), st.booleans())
def test_erased_events_stay_erased_in_any_order(times: list[int], erased_at: int, late: bool) -> None:
    """An erasure that comes before or after the events it covers leaves the same row, with nothing up to its time."""
    times = times[: SCHEMA.window]
    events = [("clicks", offset, click(f"e{ts}", ts)) for offset, ts in enumerate(times)]
    erasure = ("erasures", 0, Erasure(user_id="u", ts=T0 + erased_at))
    row = folded([*events, erasure] if late else [erasure, *events])
    assert_same(row, folded([erasure, *events]))
    assert np.frombuffer(row.events, EVENT)["ts"].tolist() == sorted(T0 + ts for ts in times if ts > erased_at)
    assert row.long_term().sum() == pytest.approx(sum(ts > erased_at for ts in times), abs=1e-3)


def test_an_input_that_comes_again_is_the_same_row() -> None:
    """A redelivered offset gives back the very same object, so a worker can tell that nothing changed."""
    row = folded([("clicks", 0, click("e", 1))])
    assert apply_input(row, click("e", 1), Position("clicks", 0, 0, T0), SCHEMA) is row


def test_a_repeated_event_id_changes_nothing_but_the_offset() -> None:
    """A producer's retry at a new offset is known by its id: revision, count and history stay."""
    row = folded([("clicks", 0, click("e", 1))])
    again = apply_input(row, click("e", 1), Position("clicks", 0, 5, T0), SCHEMA)
    assert again == msgspec.structs.replace(row, applied={"clicks": 5})


def test_an_older_list_does_not_replace_a_newer_one() -> None:
    """The current list is the newest by (ts, request_id); an older one that comes late still counts as applied."""
    row = folded([("candidates", 0, candidates("r2", 5)), ("candidates", 1, candidates("r1", 4))])
    assert row.candidates is not None
    assert row.candidates.request_id == "r2"
    assert row.revision == 2


def test_of_an_item_listed_twice_the_first_stays() -> None:
    """A recall stage that merges sources may name an item twice; it is ranked once, where it stood first."""
    row = folded([("candidates", 0, candidates("r", 1, ("a", "b", "a")))])
    assert row.candidates is not None
    assert row.candidates.item_ids == ("a", "b")


@given(logs())
def test_the_stored_row_is_the_row(log: dict[str, list[object]]) -> None:
    """Encoding and decoding lose nothing."""
    row = folded([(topic, offset, record) for topic, records in log.items() for offset, record in enumerate(records)])
    assert decode_row(encode_row(row)) == row


def test_a_shorter_row_of_an_older_release_decodes() -> None:
    """Fields are only ever appended: a row that ends earlier has the defaults for the rest."""
    row = folded([("clicks", 0, click("e", 1))])
    fields = msgspec.msgpack.decode(encode_row(row)[1:])
    old = bytes([1]) + msgspec.msgpack.encode(fields[:4])
    assert decode_row(old) == UserRow(applied=row.applied, revision=1, count=1, events=row.events)


def test_a_row_of_a_later_release_is_refused() -> None:
    """A row that this release cannot know is an error that says so, not a guess."""
    with pytest.raises(RowError, match="version 200"):
        decode_row(bytes([200]) + b"x")


def test_a_user_with_a_full_history_takes_under_3_kb() -> None:
    """A million users' rows must fit a gigabyte: the row of a busy user stays small, its list aside."""
    row = EMPTY
    schema = FeatureSchema()
    for offset in range(200):
        row = apply_input(row, click(f"e{offset}", offset), Position("clicks", 0, offset, T0), schema)
    assert len(encode_row(row)) < 3 * 1024


@given(st.integers(1, 100))
def test_the_visible_window_starts_in_steps_of_half(count: int) -> None:
    """From one event to the next the start either stays or leaves half the window behind, never one event."""
    window = 8
    events = b"".join(bytes([number]) * EVENT.itemsize for number in range(count))
    row = UserRow(count=count, events=events[-window * EVENT.itemsize :])
    after = UserRow(count=count + 1, events=(events + b"\xff" * EVENT.itemsize)[-window * EVENT.itemsize :])
    before, now = (len(one.visible(window)) // EVENT.itemsize for one in (row, after))
    assert now == before + 1 or (before == window and now == window // 2 + 1)


def test_a_row_keeps_the_features_that_the_schema_declares() -> None:
    """A list with a feature of its own name for each item stays as small as one without any."""
    schema = FeatureSchema(candidate_features=(CandidateFeature(name="price"), CandidateFeature(name="score")))
    items = [Candidate(item_id=f"i{at}", features={f"f{at}": 1.0, "price": float(at)}) for at in range(1000)]
    listed = CandidateList(request_id="r", user_id="u", items=items, ts=T0)
    row = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), schema)
    assert row.candidates is not None
    assert row.candidates.columns == ("price",)
    assert len(encode_row(row)) < 15_000
    prices = row.candidates.column("price")
    assert prices is not None
    assert prices.tolist() == list(range(1000))


def test_features_as_producers_send_them() -> None:
    """true is 1 and false 0; null and text are a missing number; a null of the context is no field."""
    schema = FeatureSchema(candidate_features=(CandidateFeature(name="x"),))
    items = [Candidate(item_id=str(at), features={"x": x}) for at, x in enumerate((True, False, None, "red", 2.5))]
    listed = CandidateList(request_id="r", user_id="u", items=items, ts=T0, context={"device": None, "age": 3.0})
    current = apply_input(EMPTY, listed, Position("candidates", 0, 0, T0), schema).candidates
    assert current is not None
    np.testing.assert_array_equal(current.column("x"), np.array([1, 0, np.nan, np.nan, 2.5], np.float32))
    assert current.context == {"age": 3.0}


@pytest.mark.parametrize("cut", [1, 30, 31 * 3 - 1])
def test_a_row_with_half_an_event_is_none(cut: int) -> None:
    """Damage is found where the row is read, not where something is computed of it."""
    row = folded([("clicks", at, click(f"e{at}", at)) for at in range(3)])
    with pytest.raises(RowError, match="multiple of 31"):
        decode_row(encode_row(msgspec.structs.replace(row, events=row.events[:cut])))


def test_a_topic_that_is_mapped_anew_hides_nothing() -> None:
    """Its offsets begin anew, below those of the topic before; and that one's still come as repeats."""
    old, new = Position("clicks", 0, 41, T0, "web.clicks"), Position("clicks", 0, 3, T0, "web.clicks.v2")
    row = apply_input(EMPTY, click("e1", 0), old, SCHEMA)
    again = apply_input(row, click("e2", 1), new, SCHEMA)
    assert (again.count, again.applied) == (2, {"web.clicks": 41, "web.clicks.v2": 3})
    assert apply_input(again, click("e1", 0), old, SCHEMA) is again
