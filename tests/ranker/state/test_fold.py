"""The fold: whatever order inputs come in, however often, the row is the same."""

from __future__ import annotations

from collections import Counter

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
from ranker.state.codec import assembled, decode_list, decode_row, encode_head, encode_list, encode_row
from ranker.state.fold import DEFAULT_RULES, RowRules, apply_input
from ranker.state.row import EMPTY, EVENT, UserRow, event_key

SCHEMA = FeatureSchema(window=8)
T0 = 1_700_000_000_000


def click(event_id: str, ts: int, item: str = "a", action: str = "click", value: float | None = None) -> Interaction:
    return Interaction(user_id="u", item_id=item, action=action, event_id=event_id, ts=T0 + ts, value=value)


def candidates(
    request_id: str, ts: int, items: tuple[str, ...] = ("a", "b"), lasts: int | None = None
) -> CandidateList:
    listed = [Candidate(item_id=item, score=1.0) for item in items]
    end = None if lasts is None else T0 + ts + lasts
    return CandidateList(request_id=request_id, user_id="u", items=listed, ts=T0 + ts, expires_at=end)


def folded(inputs: list[tuple[str, int, object]], rules: RowRules = DEFAULT_RULES) -> UserRow:
    row = EMPTY
    for topic, offset, record in inputs:
        row = apply_input(row, record, Position(topic, 0, offset, T0), SCHEMA, rules)
    return row


def arrived(records: list[object]) -> list[tuple[str, int, object]]:
    """Records as they lie in their topics, in the order in which they come."""
    topics = {Interaction: "interactions", CandidateList: "candidates", User: "users", Erasure: "erasures"}
    ends: Counter[str] = Counter()
    inputs = []
    for record in records:
        topic = topics[type(record)]
        inputs.append((topic, ends[topic], record))
        ends[topic] += 1
    return inputs


def key_of(event: Interaction) -> int:
    """What names the event in a row."""
    return event_key(hash_id(event.event_id or ""), hash_id(event.item_id), SCHEMA.action_number(event.action))


def assert_same(a: UserRow, b: UserRow, *but_for: str) -> None:
    """Equal, the summary to rounding."""
    if "summary" not in but_for:
        np.testing.assert_allclose(a.long_term(), b.long_term(), rtol=1e-4, atol=1e-4)
        assert a.summary_ts == b.summary_ts
    same = {name: getattr(EMPTY, name) for name in ("summary", "summary_ts", *but_for)}
    assert msgspec.structs.replace(a, **same) == msgspec.structs.replace(b, **same)


TIMES = st.integers(0, 60)


@st.composite
def logs(draw: st.DrawFn) -> list[object]:
    """Records of all kinds in the order of their topics, some of them twice: orders of several items, lists that come
    again under their request or soon end, attributes, erasures. Without an erasure also different records of one event.
    """
    named = st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.sampled_from(["view", "click"]))
    erasures = draw(st.lists(TIMES, max_size=2))
    differs = not erasures and draw(st.booleans())
    times: dict[tuple[int, str, str], tuple[int, float | None]] = {}
    records: list[object] = []
    for name in draw(st.lists(named, max_size=SCHEMA.window if differs else 2 * SCHEMA.window)):
        given = draw(TIMES), draw(st.sampled_from([None, 1.0, 2.0]))
        ts, value = given if differs else times.setdefault(name, given)
        records.append(click(f"e{name[0]}", ts, name[1], name[2], value))
    for request, ts, items, lasts in draw(
        st.lists(
            st.tuples(st.sampled_from(["r1", "r2", "r3", "r4", "r5"]), TIMES, st.sampled_from(["ab", "cd"]),
                      st.sampled_from([0, 5, 1000])), max_size=7)
    ):  # fmt: skip
        records.append(candidates(request, ts, tuple(items), lasts))
    attributes = draw(st.lists(st.tuples(TIMES, st.sampled_from([{}, {"n": 1.0}, {"n": 2.0, "s": "x"}])), max_size=3))
    records += [User(user_id="u", attributes=dict(known), ts=T0 + ts) for ts, known in attributes]
    return [*records, *(Erasure(user_id="u", ts=T0 + ts) for ts in erasures)]


@given(logs(), st.data())
def test_whatever_the_order_the_row_is_the_same(log: list[object], data: st.DataObject) -> None:
    """History, lists, attributes and time of erasure always; count, summary and revision as far as the window reaches:
    no more events than it holds, and for the revision no repeat of what was erased. What is delivered again is nothing.
    """
    straight = folded(arrived(log))
    inputs = arrived(data.draw(st.permutations(log)))
    twice = [again for one in inputs for again in (one, *([one] if data.draw(st.booleans()) else []))]
    shuffled = folded(twice)
    keys = [key_of(record) for record in log if isinstance(record, Interaction)]
    within, erased = len(set(keys)) <= SCHEMA.window, any(isinstance(record, Erasure) for record in log)
    revised = len(set(keys)) == len(keys) or (within and not erased)
    assert_same(shuffled, straight, *([] if within else ["count", "summary"]), *([] if revised else ["revision"]))
    assert folded(inputs) == shuffled


@given(st.permutations(range(30)))
def test_history_is_the_newest_events_in_any_order(order: list[int]) -> None:
    """The window holds the newest events by time, and the list is the newest list, whatever came first."""
    row = EMPTY
    for offset, number in enumerate(order):
        row = apply_input(row, click(f"e{number}", number), Position("clicks", 0, offset, T0), SCHEMA)
    kept = np.frombuffer(row.events, EVENT)["id"].tolist()
    assert kept == [key_of(click(f"e{number}", number)) for number in range(22, 30)]
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


def test_each_item_of_an_order_counts() -> None:
    """One event_id for several items, and two actions on one of them: each is an event; what comes again is none."""
    order = [click("o-1", 1, item, "click") for item in ("a", "b", "c")]
    row = folded(arrived([*order, *order, click("o-1", 2, "a", "view")]))
    assert (row.count, row.revision) == (4, 4)
    assert sorted(np.frombuffer(row.events, EVENT)["item"].tolist()) == sorted(map(hash_id, ("a", "a", "b", "c")))


def test_a_topic_made_anew_has_other_records_under_the_same_offsets() -> None:
    """Its id says so: they are applied, and an event that its position names is another; what comes again is not."""
    row = EMPTY
    for number, topic_id in enumerate((b"first", b"first", b"second", b"second", b"", b"second")):
        at = Position("clicks", 0, number % 2, T0, topic_id=topic_id)
        record = msgspec.structs.replace(click(at.event_id, 1), ts=T0 + number)
        row = apply_input(row, record, at, SCHEMA)
    assert (row.count, row.revision, row.applied, row.topics) == (4, 4, {"clicks": 1}, {"clicks": b"second"})


def test_of_two_records_of_an_event_the_smaller_holds() -> None:
    """By time, then by value, whichever comes first."""
    for records in (one := [click("e", 5, value=2.0), click("e", 5, value=1.0), click("e", 9, value=0.0)]), one[::-1]:
        (event,) = np.frombuffer(folded(arrived(records)).events, EVENT)
        assert (event["ts"], event["value"]) == (T0 + 5, 1.0)


def test_the_newest_lists_are_current() -> None:
    """The newest three by (ts, request_id), each request once; an older one that comes late counts as applied."""
    lists = [candidates("r2", 5), candidates("r1", 4), candidates("r4", 9), candidates("r3", 4), candidates("r1", 3)]
    row = folded(arrived(lists))
    assert [listed.request_id for listed in row.current] == ["r3", "r2", "r4"]
    assert row.revision == 5
    row = folded(arrived([*lists, candidates("r3", 20, ("z",))]))
    assert [(listed.request_id, listed.item_ids) for listed in row.current][-1] == ("r3", ("z",))
    alone = folded(arrived(lists), RowRules(lists=1))
    assert [listed.request_id for listed in alone.current] == ["r4"]


def test_a_list_ends() -> None:
    """At its own time, or a day after it came; by the time of events, and its content is gone."""
    log = [candidates("short", 0, lasts=100), candidates("long", 0), click("e1", 100)]
    assert [listed.request_id for listed in folded(arrived(log)).current] == ["long", "short"]
    log.append(click("e2", 101))
    row = folded(arrived(log))
    assert [listed.request_id for listed in row.current] == ["long"]
    assert row.named("short") is None
    assert row.lists[-1].item_ids == ()
    log.append(click("e3", 24 * 3_600_000 + 1))
    assert folded(arrived(log)).current == ()
    kept = folded(arrived(log), RowRules(list_hours=25))
    assert [listed.request_id for listed in kept.current] == ["long"]


def test_attributes_keep_their_time() -> None:
    """An older record that comes late changes nothing; nor does one from before an erasure, before it or after."""
    newer, older = (User(user_id="u", attributes={"n": n}, ts=T0 + ts) for n, ts in ((2.0, 9), (1.0, 4)))
    assert folded(arrived([newer, older])).attributes == {"n": 2.0}
    forget = Erasure(user_id="u", ts=T0 + 5)
    for log in ([older, forget], [forget, older]):
        assert folded(arrived(log)).attributes == {}
    assert folded(arrived([newer, forget, older])).attributes == {"n": 2.0}
    cleared = User(user_id="u", ts=T0 + 10)
    assert folded(arrived([cleared, newer])).attributes == {}


def test_of_an_item_listed_twice_the_first_stays() -> None:
    """A recall stage that merges sources may name an item twice; it is ranked once, where it stood first."""
    row = folded([("candidates", 0, candidates("r", 1, ("a", "b", "a")))])
    assert row.candidates is not None
    assert row.candidates.item_ids == ("a", "b")


@given(logs())
def test_the_stored_row_is_the_row(log: list[object]) -> None:
    """Encoding and decoding lose nothing; in pieces neither, as long as each is there."""
    row = folded(arrived(log))
    assert decode_row(encode_row(row)) == row
    lists = [decode_list(encode_list(listed)) for listed in row.current]
    assert assembled(decode_row(encode_head(row)), {listed.request_id: listed for listed in lists}) == row


def test_a_shorter_row_of_an_older_release_decodes() -> None:
    """Fields are only ever appended: a row that ends earlier has the defaults for the rest."""
    row = folded([("clicks", 0, click("e", 1))])
    fields = msgspec.msgpack.decode(encode_row(row)[1:])
    old = bytes([2]) + msgspec.msgpack.encode(fields[:4])
    assert decode_row(old) == UserRow(applied=row.applied, revision=1, count=1, events=row.events)


def test_a_list_that_is_newer_than_its_head_is_taken_and_one_that_is_gone_is_not() -> None:
    """Between a list and its head, or a tombstone and its head, a kill may come."""
    row = folded(arrived([candidates("r1", 1), candidates("r2", 2)]))
    head = decode_row(encode_head(row))
    newer = folded(arrived([candidates("r1", 5, ("z",))])).current[0]
    found = assembled(head, {"r1": newer, "r9": newer})
    assert found.current == (newer,)
    again = apply_input(found, candidates("r1", 5, ("z",)), Position("candidates", 0, 2, T0), SCHEMA)
    whole = folded(arrived([candidates("r1", 1), candidates("r2", 2), candidates("r1", 5, ("z",))]))
    assert again.named("r1") == whole.named("r1")


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


@pytest.mark.parametrize("cut", [1, 34, 35 * 3 - 1])
def test_a_row_with_half_an_event_is_none(cut: int) -> None:
    """Damage is found where the row is read, not where something is computed of it."""
    row = folded([("clicks", at, click(f"e{at}", at)) for at in range(3)])
    with pytest.raises(RowError, match="multiple of 35"):
        decode_row(encode_row(msgspec.structs.replace(row, events=row.events[:cut])))


def test_a_topic_that_is_mapped_anew_hides_nothing() -> None:
    """Its offsets begin anew, below those of the topic before; and that one's still come as repeats."""
    old, new = Position("clicks", 0, 41, T0, "web.clicks"), Position("clicks", 0, 3, T0, "web.clicks.v2")
    row = apply_input(EMPTY, click("e1", 0), old, SCHEMA)
    again = apply_input(row, click("e2", 1), new, SCHEMA)
    assert (again.count, again.applied) == (2, {"web.clicks": 41, "web.clicks.v2": 3})
    assert apply_input(again, click("e1", 0), old, SCHEMA) is again
