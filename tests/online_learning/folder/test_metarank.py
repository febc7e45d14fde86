"""Metarank's events as a folder: what its four events say, and what each line that cannot be used lacks."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from liverank.cli.main import app
from online_learning.data.dataset import DataSetError
from online_learning.folder.convert import convert
from online_learning.folder.log import open_folder
from online_learning.folder.metarank import metarank
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User

T = 1_599_391_467_000


def fields(**values: Any) -> list[dict[str, Any]]:
    """`fields` of an event."""
    return [{"name": name, "value": value} for name, value in values.items()]


def item(name: str, ts: Any, **values: Any) -> dict[str, Any]:
    """An item event."""
    return {"event": "item", "id": f"{name}-{ts}", "timestamp": ts, "item": name, "fields": fields(**values)}


def ranking(name: str, ts: Any, items: list[Any], **more: Any) -> dict[str, Any]:
    """A ranking event of user1 with two fields."""
    about = fields(query="cat", source=more.pop("source", "search"), page=more.pop("page", 1))
    return {
        "event": "ranking", "id": name, "timestamp": ts, "user": "user1", "session": "s1", "fields": about,
        "items": items, **more,
    }  # fmt: skip


def interaction(name: str, ts: Any, what: str, item_id: str, **more: Any) -> dict[str, Any]:
    """An interaction event of user1."""
    event = {"event": "interaction", "id": name, "timestamp": ts, "user": "user1", "session": "s1", "type": what}
    return {**event, "item": item_id, **more}


EVENTS = [
    item("item1", str(T), title="You favourite cat", color=["white", "black"], is_cute=True, price=9.5),
    item("item1", T + 1000, price=12),
    item("item1", T - 1000, price=1, category="cats"),  # older: what is known already stays
    item("item2", "2020-09-06T11:24:27Z", description="A dog", genre="dogs", sizes=[1, 2], care="x" * 65),
    {"event": "user", "id": "u", "timestamp": T, "user": "user1", "fields": fields(age=33, gender="m")},
    {"event": "user", "id": "u", "timestamp": T, "user": "user2", "fields": fields(age=20, gender="f")},
    ranking("r1", T + 5000, [
        {"id": "item2", "fields": fields(relevancy=2.0, discount=0.1)}, {"id": "item1", "relevancy": 1, "label": 1},
    ]),
    ranking("r2", T + 9000, [{"id": "item1"}, {"id": "item3"}], source="home", page=2, user=None),
    interaction("i1", T + 6000, "click", "item1", ranking="r1"),
    interaction("i2", str(T + 7000), "purchase", "item1", ranking="r1", fields=fields(value=12, shipping="DHL")),
    interaction("i3", T + 8000, "hover", "item2", fields=[]),
]  # fmt: skip


def written(folder: Path, lines: list[Any], name: str = "events.jsonl") -> Path:
    """A file with these events, or texts, a line each."""
    path = folder / name
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_all_four_events_become_a_folder(tmp_path: Path) -> None:
    """Packed; read back by the one path that every folder goes, by the schema that was written."""
    path = written(tmp_path, EVENTS, "events.jsonl.gz")
    made = convert(metarank(path), path, tmp_path / "out")
    assert made.lines == {"items": 2, "users": 2, "candidates": 2, "interactions": 3}
    folder = open_folder(tmp_path / "out")
    records = list(folder.records(tmp_path / "out"))
    assert [record for record in records if isinstance(record, Item)] == [
        Item(
            item_id="item1", title="You favourite cat", category="cats", tags=["color:white", "color:black"],
            numeric={"is_cute": 1.0, "price": 12.0},
        ),
        Item(item_id="item2", text="A dog. " + "x" * 65, category="dogs", tags=["sizes:1", "sizes:2"]),
    ]  # fmt: skip
    assert User(user_id="user1", attributes={"age": 33.0, "gender": "m"}) in records
    assert [record for record in records if isinstance(record, CandidateList)] == [
        CandidateList(
            request_id="r1", user_id="user1", ts=T + 5000, context={"query": "cat", "source": "search", "page": 1.0},
            items=[
                Candidate(item_id="item2", score=2.0, features={"discount": 0.1}),
                Candidate(item_id="item1", score=1.0),
            ],
        ),
        CandidateList(
            request_id="r2", user_id="s1", ts=T + 9000, context={"query": "cat", "source": "home", "page": 2.0},
            items=[Candidate(item_id="item1"), Candidate(item_id="item3")],
        ),
    ]  # fmt: skip
    events = [record for record in records if isinstance(record, Interaction)]
    assert [(event.event_id, event.action, event.item_id, event.request_id) for event in events] == [
        ("i1", "click", "item1", "r1"), ("i2", "purchase", "item1", "r1"), ("i3", "hover", "item2", None),
    ]  # fmt: skip
    assert (events[1].value, events[1].context) == (12.0, {"shipping": "DHL"})
    assert folder.lists


def test_the_schema_is_that_of_the_events(tmp_path: Path) -> None:
    """Actions by count after the two built in, what looks wanted positive; numbers, and texts of few values."""
    schema = metarank(written(tmp_path, EVENTS)).schema
    assert schema.action_names == ("view", "click", "purchase", "hover")
    assert [action.name for action in schema.positives] == ["click", "purchase"]
    assert [feature.name for feature in schema.candidate_features] == ["score", "discount"]
    # `query` has one value in all, and `shipping` is none of a list or a user.
    assert {field.name: field.values for field in schema.context} == {
        "age": (), "gender": ("f", "m"), "source": ("home", "search"), "page": (),
    }  # fmt: skip
    assert schema.item_numeric == ("is_cute", "price")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{no json", "the line is not JSON"),
        ([1], "the line is no JSON object"),
        ({"event": "impression", "id": "x", "timestamp": T}, r"'impression' - at `\$.event`"),
        ({"id": "x", "timestamp": T}, "required field `event`"),
        ({"event": "item", "id": "x", "timestamp": T}, "required field `item`"),
        (item("a", "yesterday"), "timestamp is 'yesterday'; it must be a number of ms, or ISO 8601"),
        (item("a", T // 1000), "timestamp is 1599391467, before the year 1990"),
        (item("a", T, color={"r": 1}), r"fields\[0\].value"),
        (item("a", T, color=None), r"fields\[0\].value"),
        (item("a", T, color=["white", 3]), "fields.color has texts and numbers"),
        (item("", T), "item has 0 characters; an id has 1 to 256"),
        (ranking("r", T, []), "items has 0 entries; a list has 1 to 1000"),
        (ranking("r", T, [{"name": "a"}]), r"required field `id` - at `\$.items\[0\]`"),
        (interaction("i", T, "click", "a", user=None, session=None), "user is absent, and so is session"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: Any, says: str) -> None:
    """By file, line and field; all others are taken."""
    path = written(tmp_path, [*EVENTS, line])
    data = metarank(path)
    (note,) = [note for note in data.notes if "lines are left out" in note]
    assert note.startswith(f"1 lines are left out, first: events.jsonl:{len(EVENTS) + 1}: ")
    assert re.search(says, note), note
    assert sum(1 for _ in data.records(path)) == 9


def test_what_no_record_has_room_for_is_told(tmp_path: Path) -> None:
    """Judgements, lists in a ranking's fields, texts of a candidate, several tenants."""
    more = [
        ranking("r3", T, [{"id": "a", "fields": fields(badge="new")}], tenant="a"),
        {**ranking("r4", T, [{"id": "a"}], tenant="b"), "fields": fields(filters=["red", "blue"])},
    ]
    notes = " / ".join(metarank(written(tmp_path, [*EVENTS, *more])).notes)
    assert "left out: badge, filters" in notes
    assert "1 labels of rankings are left out" in notes
    assert "2 tenants" in notes


def test_a_log_without_rankings_is_recalled(tmp_path: Path) -> None:
    """As every log without lists; one without interactions teaches nothing, and leaves no folder behind."""
    path = written(tmp_path, [event for event in EVENTS if event["event"] != "ranking"])
    convert(metarank(path), path, tmp_path / "out")
    assert open_folder(tmp_path / "out").recalled == 100
    with pytest.raises(DataSetError, match="no interaction event that can be used"):
        metarank(written(tmp_path, EVENTS[:3]))
    with pytest.raises(DataSetError, match=r"holds no events; give a \.jsonl file"):
        metarank(tmp_path / "nothing.jsonl")


def test_the_command_says_what_it_wrote_and_left_out(tmp_path: Path) -> None:
    """One command from a file to a folder."""
    path, out = written(tmp_path, [*EVENTS, "{"]), tmp_path / "out"
    ran = CliRunner().invoke(
        app, ["data", "convert", "metarank", "--data", str(path), "--out", str(out), "--json", str(tmp_path / "report")]
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "report").read_text())
    assert report["lines"]["interactions"] == 3
    assert "events.jsonl:12: the line is not JSON" in report["notes"][0]
