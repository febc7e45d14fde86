"""What a user typed: kept as vectors, the newest few, whatever order the records come in."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Erasure, Interaction
from ranker.contracts.schema import Action, FeatureSchema
from ranker.state.attribution import ShownList, astray, examples_of
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import WORDS_KEPT, EncodedText, quantised, typed_text

SCHEMA = FeatureSchema(window=8)
T0 = 1_700_000_000_000


def typed(name: str, ts: int, text: str = "space war", action: str = "search") -> Interaction:
    return Interaction(user_id="u", action=action, event_id=name, ts=T0 + ts, text=text)


def encoded(record: UserInput) -> EncodedText | None:
    """A vector that differs from text to text."""
    text = typed_text(record)
    return None if text is None else EncodedText("tiny-1", text.encode()[:6].ljust(6))


def folded(records: Sequence[UserInput], row: UserRow = EMPTY, *, start: int = 0, encode: bool = True) -> UserRow:
    topics = {Interaction: "interactions", CandidateList: "candidates", Erasure: "erasures"}
    for offset, record in enumerate(records, start):
        at = Position(topics[type(record)], 0, offset, T0)
        row = apply_input(row, record, at, SCHEMA, typed=encoded(record) if encode else None)
    return row


def shown(ts: int = 0) -> CandidateList:
    return CandidateList(request_id="r", user_id="u", items=[Candidate(item_id=item) for item in "abc"], ts=T0 + ts)


NAMES = st.integers(0, 2 * WORDS_KEPT)


@st.composite
def logs(draw: st.DrawFn) -> list[object]:
    """Texts, some of them about an item, some twice, beside clicks, a list and erasures."""
    times: dict[int, int] = {}
    records: list[object] = [shown(draw(st.integers(0, 30)))]
    for name in draw(st.lists(NAMES, max_size=3 * WORDS_KEPT)):
        ts = times.setdefault(name, draw(st.integers(0, 60)))
        item = "a" if name % 3 == 0 else None
        action = "click" if item else "search"
        records.append(
            Interaction(user_id="u", item_id=item, action=action, event_id=f"t{name}", ts=T0 + ts, text=f"{name}")
        )
    clicks = draw(st.lists(st.integers(0, 60), max_size=4))
    records += [Interaction(user_id="u", item_id="b", action="view", event_id=f"v{ts}", ts=T0 + ts) for ts in clicks]
    return [*records, *(Erasure(user_id="u", ts=T0 + ts) for ts in draw(st.lists(st.integers(0, 60), max_size=2)))]


@given(logs(), st.data())
def test_whatever_the_order_the_words_are_the_same(log: list[object], data: st.DataObject) -> None:
    """Words, history and lists, in any order; and a record that is delivered again changes nothing."""
    straight, shuffled = folded(log), folded(data.draw(st.permutations(log)))
    assert shuffled.words == straight.words
    assert (shuffled.events, shuffled.lists, shuffled.erased_at) == (
        straight.events,
        straight.lists,
        straight.erased_at,
    )
    again = folded(log, straight)
    assert again is straight


@given(st.permutations(range(2 * WORDS_KEPT)))
def test_the_newest_are_kept_in_any_order(order: list[int]) -> None:
    """Of more than there is room for those that are newest by time stay, oldest first."""
    row = folded([typed(f"t{number}", number) for number in order])
    assert [one.ts - T0 for one in row.words] == list(range(WORDS_KEPT, 2 * WORDS_KEPT))
    assert row.revision == len(order)


@given(st.permutations(["ab", "cd", "ef"]), st.integers(0, 2))
def test_of_different_texts_of_one_event_the_same_holds_in_any_order(texts: list[str], unencoded: int) -> None:
    """One event, several texts: one of them holds, whichever comes first, and none that could not be encoded."""
    found = EMPTY
    for offset, text in enumerate(texts):
        record = typed("t", 5, text)
        vector = None if text == ["ab", "cd", "ef"][unencoded] else encoded(record)
        found = apply_input(found, record, Position("interactions", 0, offset, T0), SCHEMA, typed=vector)
    left = sorted(text for text in texts if text != ["ab", "cd", "ef"][unencoded])
    assert [one.vector for one in found.words] == [left[0].encode().ljust(6)]
    assert found.revision == 1


def test_a_text_alone_is_in_no_count_and_in_no_history() -> None:
    """It moves revision and offsets, and what ages are measured against; nothing else but the words."""
    before = folded([Interaction(user_id="u", item_id="a", action="view", event_id="v", ts=T0), shown()])
    after = folded([typed("t", 7)], before, start=5)
    same = {"words": (), "revision": before.revision, "applied": before.applied, "newest": before.newest}
    assert msgspec.structs.replace(after, **same) == before
    assert (after.revision, after.applied["interactions"], after.newest) == (before.revision + 1, 5, T0 + 7)
    assert (before.now, after.now) == (T0, T0 + 7)
    assert after.newest_event == T0


def test_a_repeat_changes_nothing_but_the_offset() -> None:
    """The same event under another offset: no revision, no second vector."""
    once = folded([typed("t", 3)])
    twice = folded([typed("t", 3)], once, start=9)
    assert msgspec.structs.replace(twice, applied=once.applied) == once
    assert twice.applied == {"interactions": 9}


def test_a_text_about_an_item_counts_beside_the_event() -> None:
    """A review: the event is what it is without words, and its text is kept."""
    review = Interaction(user_id="u", item_id="a", action="click", event_id="e", ts=T0, text="very quiet")
    row, without = folded([review]), folded([msgspec.structs.replace(review, text=None)])
    assert msgspec.structs.replace(row, words=()) == without
    ((words),) = row.words
    assert words.item != 0
    assert words.vector == b"very q"


def test_what_could_not_be_encoded_still_counts() -> None:
    """Without a vector a text moves the revision, and is known when it comes again; one of an item leaves no trace."""
    row = folded([typed("t", 3)], encode=False)
    assert [(one.ts, one.encoder, one.vector) for one in row.words] == [(T0 + 3, "", b"")]
    assert row.revision == 1
    assert folded([typed("t", 3)], row, start=4, encode=False).revision == 1
    review = Interaction(user_id="u", item_id="a", action="click", event_id="e", ts=T0, text="quiet")
    assert not folded([review], encode=False).words


def test_an_erasure_forgets_words() -> None:
    """Those up to its time, whether they come before it or after."""
    row = folded([typed("t1", 1), typed("t2", 9), Erasure(user_id="u", ts=T0 + 5)])
    assert [one.ts - T0 for one in row.words] == [9]
    late = folded([typed("t3", 4)], row, start=7)
    assert late.words == row.words
    assert late.revision == row.revision + 1


def test_an_old_list_ends_with_a_text() -> None:
    """What is typed is later than the list lasts, so the list has ended."""
    listed = msgspec.structs.replace(shown(), expires_at=T0 + 5)
    assert folded([listed, typed("t", 5)]).current
    assert not folded([listed, typed("t", 6)]).current


def test_the_text_itself_is_in_no_row() -> None:
    """Only numbers made of it: as stored and as examples carry it."""
    words = "my secret wish"
    record = typed("t", 3, words)
    vector = EncodedText("tiny-1", quantised(np.linspace(-1, 1, 32)))
    row = apply_input(EMPTY, record, Position("interactions", 0, 0, T0), SCHEMA, typed=vector)
    stored = encode_row(row)
    assert not any(word.encode() in stored for word in words.split())
    assert decode_row(stored) == row
    assert len(stored) < 200


def test_rows_without_words_decode_and_are_read_by_who_knows_none() -> None:
    """Fields are appended: a row of before has no words, and an earlier release passes over ours."""
    row = folded([typed("t", 3), shown()])
    fields = msgspec.msgpack.decode(encode_row(row)[1:])
    assert decode_row(bytes((2,)) + msgspec.msgpack.encode(fields[:13])) == msgspec.structs.replace(row, words=())


def test_a_text_alone_draws_nothing() -> None:
    """Whatever its action, it is no outcome of a list, closes none within its window, and goes astray to none."""
    before = folded([shown()])
    record = msgspec.structs.replace(typed("t", 3, action="click"), request_id="r")
    after = folded([record], before, start=3)
    made = examples_of(before, record, after, SCHEMA, 1000, lambda listed: ShownList("m", lambda _: np.zeros((3, 3))))
    assert list(made) == []
    assert not astray(before, msgspec.structs.replace(record, request_id="gone"), SCHEMA)


def test_actions_of_texts() -> None:
    """Any declared action, or one of those that need no declaration; a declared one keeps its own number."""
    declared = FeatureSchema(actions=(*FeatureSchema().actions, Action(name="search")))
    assert declared.word_action_number("search") == declared.action_number("search") == 2
    assert SCHEMA.word_action_number("search") >= 32
    assert SCHEMA.word_action_number("view") == 0
    for name in ("fly", None):
        with pytest.raises(InvalidRecord, match="without an item_id valid are view, click, search, question"):
            SCHEMA.word_action_number(name)


def test_a_vector_as_int8_keeps_its_direction() -> None:
    """Whatever its length; and one without a direction is none."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e6):
        vector = scale * rng.normal(size=384)
        stored = np.frombuffer(quantised(vector), np.int8).astype(float)
        assert stored @ vector / np.linalg.norm(stored) / np.linalg.norm(vector) > 0.9995
    assert quantised(np.zeros(4)) == b""
    with pytest.raises(ValueError, match="not finite"):
        quantised(np.array([1.0, np.nan]))
