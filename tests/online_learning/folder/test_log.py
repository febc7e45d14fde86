"""A folder's files as records: every form, every shape of a list, every name and time, in order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
import zstandard

from online_learning.folder.description import FolderError
from online_learning.folder.log import START_WITHOUT_TIMES, folder_records, open_folder, read_log
from online_learning.folder.records import RejectedLine
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from tests.support.folders import PLAIN, START, folder_of, shop


def records_of(folder: Path) -> tuple[list, list[RejectedLine]]:
    """Everything that a folder gives, and what it rejects."""
    rejected: list[RejectedLine] = []
    return list(folder_records(read_log(folder), rejected.append)), rejected


EVENTS = [
    {"user_id": "u 1", "item_id": "Ünïcode 7", "action": "click", "event_id": "e1", "ts": START + 5, "value": 1.25},
    {"user_id": "u2", "item_id": "9", "action": "view", "event_id": "e2", "ts": START, "value": None},
]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_every_form_gives_the_same_records(tmp_path: Path, form: str, packed: str) -> None:
    """Text, JSON or Parquet, packed or not: the same events, ordered by time."""
    frame, path = pl.DataFrame(EVENTS), tmp_path / "raw"
    if form == "parquet":
        frame.write_parquet(path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    else:
        frame.write_csv(path, separator="," if form == "csv" else "\t", quote_style="necessary")
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    content = pack(path.read_bytes())
    path.unlink()
    records, rejected = records_of(folder_of(tmp_path, {f"interactions.{form}{packed}": content}))
    assert not rejected
    assert records == [
        Interaction(user_id="u2", item_id="9", action="view", event_id="e2", ts=START),
        Interaction(user_id="u 1", item_id="Ünïcode 7", action="click", event_id="e1", ts=START + 5, value=1.25),
    ]


def test_several_files_of_a_kind_are_one_log(tmp_path: Path) -> None:
    """Beside each other or in a folder, with columns in another order: merged by time, each line once."""
    folder_of(
        tmp_path,
        {
            "interactions-2024-01.csv": f"user_id,item_id,action,ts\na,1,view,{START + 2}\n",
            "interactions-2024-02.csv.gz": gzip.compress(f"ts;action;item_id;user_id\n{START};view;2;a\n".encode()),
            "interactions/part.tsv": f"user_id\titem_id\taction\tts\na\t3\tview\t{START + 1}\n",
            "notes.txt": "nothing of ours",
        },
    )
    assert [record.item_id for record in records_of(tmp_path)[0]] == ["2", "3", "1"]


def test_parts_may_have_points_in_their_names(tmp_path: Path) -> None:
    """Days and Spark's parts: each line of each once. What is kept beside a file by its name still counts twice."""
    files = {
        f"{name}.csv": f"user_id,item_id,action,ts\na,{at},view,{START + at}\n"
        for at, name in enumerate(
            ("interactions-2024.01.01", "interactions-2024.01.02", "interactions/2024.01", "interactions/2024.02")
        )
    }
    records, _ = records_of(folder_of(tmp_path, files))
    assert [record.item_id for record in records] == ["0", "1", "2", "3"]
    assert len({record.event_id for record in records}) == 4
    folder_of(tmp_path, {"interactions.csv": PLAIN["interactions.csv"], "interactions.old.csv": "user_id\n"})
    with pytest.raises(
        FolderError, match=r"interactions.csv and interactions.old.csv look like one table in two forms"
    ):
        read_log(tmp_path)


def test_a_field_that_comes_late_is_read(tmp_path: Path) -> None:
    """JSON lines name their fields one by one: one that the first thousands do not have is a column all the same."""
    late = [{**EVENTS[0], "event_id": f"e{at}", "ts": START + at} for at in range(3000)]
    late[2500] |= {"price": 7.5, "context": {"device": "mobile"}}
    content = "".join(json.dumps(event | {"value": None}) + "\n" for event in late)
    config = '[data.interactions]\nvalue = "price"\n'
    records, rejected = records_of(folder_of(tmp_path, {"interactions.jsonl": content, "liverank.toml": config}))
    assert not rejected
    assert [(record.value, record.context) for record in records if record.value is not None] == [
        (7.5, {"device": "mobile"})
    ]


@pytest.mark.parametrize(
    ("last", "line", "says"),
    [
        ("", 3, "it goes on to line 6: is a quote left open?"),
        ('9,"closed"\n', 3, "it goes on to line 7: is a quote left open?"),
        ('9,a 5" disk\n', 3, "it goes on to line 7: is a quote left open?"),
    ],
)
def test_a_quote_left_open_in_the_last_column_swallows_no_line(tmp_path: Path, last: str, line: int, says: str) -> None:
    """Up to the end, or to the next quote: not one item with all of them for its title. Whole texts may go on."""
    content = 'item_id,title\n1,one line\n2,"Foo\n3,Bar\n4,Baz\n5,Qux\n'
    whole = 'item_id,title\n1,"over\ntwo lines, ""quoted"""\n'
    folder_of(tmp_path, {**PLAIN, "items.csv": content + last, "items-2.csv": whole})
    records, rejected = records_of(tmp_path)
    assert [(one.file, one.line, one.field) for one in rejected] == [("items.csv", line, "line")]
    assert says in rejected[0].problem
    assert [record.title for record in records if isinstance(record, Item)] == ['over\ntwo lines, "quoted"', "one line"]


def test_tables_that_are_called_otherwise_are_told(tmp_path: Path) -> None:
    """Beside a log, where they would be missed, and where there is none."""
    other = {"products.csv": "item_id\n1\n", "Items.csv": "item_id\n1\n", "notes.txt": "", "_tmp.csv": "x"}
    folder_of(tmp_path, {**PLAIN, **other, "candidates.parquet/part-0.parquet": b"x"})
    (note,) = [note for note in read_log(tmp_path).notes if note.startswith("not read: ")]
    assert "candidates.parquet (a folder: call it candidates), Items.csv, products.csv; what is read" in note
    assert "and is called interactions, candidates, impressions, items, users" in note
    (tmp_path / "interactions.csv").rename(tmp_path / "events.csv")
    with pytest.raises(FolderError, match=r"holds no events; .* none of which is .*, events.csv, products.csv"):
        read_log(tmp_path)


LIST = CandidateList(
    request_id="r",
    user_id="u",
    items=[Candidate(item_id="a", score=0.5, features={"price": 3.0}), Candidate(item_id="b", score=0.25)],
    ts=START,
    context={"device": "mobile"},
)
LIST_FORMS = {
    "json ids": "candidates.csv|request_id,user_id,ts,items,score,features.price,context.device\n"
    f'r,u,{START},"[""a"",""b""]","[0.5,0.25]","[3.0,null]",mobile\n',
    "json objects": 'candidates.jsonl|{"request_id":"r","user_id":"u","ts":1700000000000,'
    '"context":{"device":"mobile"},"items":'
    '[{"item_id":"a","score":0.5,"features":{"price":3.0}},{"item_id":"b","score":0.25}]}\n',
    "rows": "candidates.csv|request_id,user_id,ts,item_id,position,score,features.price,context.device\n"
    f"r,u,{START},b,2,0.25,,mobile\nq,v,{START},c,1,,,\nr,u,{START},a,1,0.5,3.0,mobile\n",
}


@pytest.mark.parametrize("form", LIST_FORMS)
def test_a_list_in_every_shape(tmp_path: Path, form: str) -> None:
    """JSON ids, JSON objects, or a line a candidate wherever it stands, ordered by its position."""
    name, _, content = LIST_FORMS[form].partition("|")
    records, rejected = records_of(folder_of(tmp_path, {**PLAIN, name: content}))
    assert not rejected
    assert next(record for record in records if getattr(record, "request_id", "") == "r") == LIST


def test_impressions_are_lists_and_events(tmp_path: Path) -> None:
    """One line a shown candidate: flags and counts become events a moment after their list, in the list's order."""
    content = (
        "sess,sku,rank,at,seen,clicks,bought,price\n"
        "s,a,2,2024-05-01T12:00:00+02:00,x,0,false,5\ns,b,1,2024-05-01T12:00:00+02:00,x,3,true,6\n"
    )
    config = """
[data]
user_id = { column = "sess" }
item_id = "sku"
ts = "at"
[data.impressions]
position = "rank"
features = ["price"]
actions.click = "clicks"
actions.purchase = "bought"
[schema]
actions = [{ name = "view" }, { name = "click", positive = true }, { name = "purchase", positive = true }]
"""
    records, rejected = records_of(folder_of(tmp_path, {"impressions.csv": content, "liverank.toml": config}))
    assert not rejected
    shown, click, purchase = records
    noon = 1_714_557_600_000
    assert [(item.item_id, item.features) for item in shown.items] == [("b", {"price": 6.0}), ("a", {"price": 5.0})]
    assert (shown.ts, click.ts, purchase.ts) == (noon, noon + 1, noon + 2)
    assert [(event.item_id, event.action, event.position) for event in (click, purchase)] == [
        ("b", "click", 0),
        ("b", "purchase", 0),
    ]
    assert click.request_id == shown.request_id


def test_names_values_and_numbers_of_ones_own(tmp_path: Path) -> None:
    """Columns of other names, a fixed value, mapped values, a decimal comma, a session for a user, a time's zone."""
    config = """
[data]
delimiter = ";"
decimal = ","
time_zone = "Europe/Berlin"
session_id = "sitzung"
item_id = "sku"
ts = "wann"
[data.interactions]
action = { column = "was", map = { addtocart = "click" } }
value = "preis"
text = { value = "from the shop" }
"""
    content = "sitzung;sku;was;wann;preis\nx;1;addtocart;2024-01-01 12:00:00;1.234,5\n"
    records, rejected = records_of(folder_of(tmp_path, {"interactions.csv": content, "liverank.toml": config}))
    assert not rejected
    (event,) = records
    assert (event.user_id, event.item_id, event.action, event.value) == ("x", "1", "click", 1234.5)
    assert (event.ts, event.text) == (1_704_106_800_000, "from the shop")


@pytest.mark.parametrize(
    ("unit", "text"),
    [("s", "1700000000"), ("s", "1700000000.000"), ("us", "1700000000000999"), ("ns", "1700000000000000001"),
     ("ms", "2023-11-14T22:13:20Z")],
)  # fmt: skip
def test_times_in_every_unit(tmp_path: Path, unit: str, text: str) -> None:
    """Seconds, micro- and nanoseconds, and ISO 8601 whatever the unit of numbers is."""
    content = f"user_id,item_id,action,ts\nu,i,view,{text}\n"
    config = f'[data]\ntime = "{unit}"\n'
    records, _ = records_of(folder_of(tmp_path, {"interactions.csv": content, "liverank.toml": config}))
    assert [record.ts for record in records] == [START]


def test_a_log_without_times_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    """Rows are a second apart, and a note for the report says so."""
    folder_of(tmp_path, {"interactions.csv": "user_id,item_id,action\nb,1,view\na,2,view\nb,3,click\n"})
    records, _ = records_of(tmp_path)
    assert [(record.item_id, record.ts - START_WITHOUT_TIMES) for record in records] == [
        ("1", 0),
        ("2", 1000),
        ("3", 2000),
    ]
    data = open_folder(tmp_path)
    assert [note for note in data.notes if "order of its rows" in note]
    assert data.recalled == 100 and [note for note in data.notes if "recalled" in note]


def test_items_and_users_come_first(tmp_path: Path) -> None:
    """Descriptions and attributes, with numbers and lists as the records have them."""
    folder_of(
        tmp_path,
        {
            **PLAIN,
            "items.jsonl": '{"item_id":7,"title":"Lamp","tags":["a","b"],"numeric":{"price":2.5},'
            '"published_at":1700000000000}\n',
            "items_2.csv": "item_id,published_at\n8,-1000\n",
            "users.csv": "user_id,attributes.tier\nu1,gold\n",
        },
    )
    records, rejected = records_of(tmp_path)
    assert not rejected
    assert records[:3] == [
        Item(item_id="7", title="Lamp", tags=["a", "b"], numeric={"price": 2.5}, published_at=START),
        Item(item_id="8", published_at=-1000),
        User(user_id="u1", attributes={"tier": "gold"}),
    ]


def test_when_an_item_was_published_is_what_a_worker_takes_it_for(tmp_path: Path) -> None:
    """0 and -1 are unknown, seconds for milliseconds say so, and a film of 1970 whose day is written out is one."""
    times = ("0", "-1", "1700000000", "1700000000000000", "1970-01-20", "1969-07-20", "")
    lines = "".join(f"{at},{ts}\n" for at, ts in enumerate(times))
    records, rejected = records_of(folder_of(tmp_path, {**PLAIN, "items.csv": f"item_id,published_at\n{lines}"}))
    items = {record.item_id: record.published_at for record in records if isinstance(record, Item)}
    assert items == {"0": None, "1": None, "4": 19 * 86_400_000, "5": -165 * 86_400_000, "6": None}
    assert [(one.line, one.field) for one in rejected] == [(4, "published_at"), (5, "published_at")]
    assert "within seven weeks of 1970; set time" in rejected[0].problem


def test_events_that_name_lists_which_the_log_has_not_are_learned_from(tmp_path: Path) -> None:
    """Of a log of events alone: what they name is neither a recalled list nor a sampled one."""
    lines = "".join(f"u{at % 4},i{at % 5},click,{START + at * 1000},search {at}\n" for at in range(60))
    folder_of(tmp_path, {"interactions.csv": f"user_id,item_id,action,ts,request_id\n{lines}"})
    records, rejected = records_of(tmp_path)
    assert not rejected and len(records) == 60
    assert {record.request_id for record in records} == {None}


def test_lists_stand_before_events_of_their_time(tmp_path: Path) -> None:
    """A click in the same second as its list comes after it; a user's times strictly increase."""
    folder_of(
        tmp_path,
        {
            "interactions.csv": f"user_id,item_id,action,ts\nu,a,click,{START}\n",
            "candidates.csv": f'user_id,ts,items\nu,{START},"[""a""]"\n',
        },
    )
    records, _ = records_of(tmp_path)
    assert [(type(record), record.ts) for record in records] == [(CandidateList, START), (Interaction, START + 1)]


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("u,i,fly,1700000000000,", "action", "valid are view, click"),
        ("u,,view,1700000000000,", "item_id", "must be there"),
        (",i,view,1700000000000,", "user_id", "or a session_id"),
        ("u,i,view,1700000000,", "ts", "before the year 1990; set time"),
        ("u,i,view,1700000000000000,", "ts", "after the year 2200; set time"),
        ("u,i,view,20240501123000,", "ts", "after the year 2200; set time"),
        ("u,i,view,9223372036854775807,", "ts", "after the year 2200; set time"),
        ("u,i,view,soon,", "ts", "ISO 8601"),
        ("u,i,view,,", "ts", "other lines have one"),
        ('u,i,view,1700000000000,"1,5"', "value", 'set decimal = ","'),
        ("u,i,view", "line", "it has 3 cells; the header has 5"),
        (f"{'x' * 4096},i,view,1700000000000,", "user_id", "has 4096 characters; at most 256"),
    ],
)
def test_a_line_that_is_no_event_says_what_would_be_right(tmp_path: Path, line: str, field: str, says: str) -> None:
    """It is left out, with its file, its line and its field; the others are taken."""
    good = f"ok,i,view,{START},\n"
    content = f"user_id,item_id,action,ts,value\n{good}{line}\n{good}"
    records, rejected = records_of(folder_of(tmp_path, {"interactions.csv": content}))
    assert len(records) == 2
    (found,) = rejected
    assert (found.file, found.line, found.field) == ("interactions.csv", 3, field)
    assert says in found.problem


def test_a_text_alone_is_an_event(tmp_path: Path) -> None:
    """A line without an item is what somebody typed, with an action of its own, and blank lines are none."""
    content = (
        f"user_id,item_id,action,ts,text\nu,,search,{START},space war\nu,a,click,{START + 1},\n"
        f"u,,search,{START + 2},  \nu,,fly,{START + 3},but funny\nu,,question,{START + 4},{'x' * 5000}\n"
    )
    records, rejected = records_of(folder_of(tmp_path, {"interactions.csv": content}))
    assert [(record.item_id, record.action, record.text) for record in records] == [
        (None, "search", "space war"),
        ("a", "click", None),
    ]
    assert [(one.line, one.field) for one in rejected] == [(4, "item_id"), (5, "action"), (6, "text")]


LOCAL = {"interactions.csv": "user_id,item_id,action,ts\nu,i,view,2024-01-01T00:00\n"}
NONE_POSITIVE = "[schema]\nactions = [{ name = 'view' }, { name = 'click' }]"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"items.csv": "item_id\n1\n"}, "holds no events"),
        ({"interactions.parquet": b"PAR1 this is none"}, "is no table .*a Parquet file"),
        ({"interactions.csv": b"\x00\xff\x00"}, "interactions.csv is no text; it must be lines of text in UTF-8"),
        ({"interactions.csv.gz": b"plain text"}, "is no table"),
        ({"interactions.csv.zst": b"plain text"}, "is no table"),
        ({"interactions.csv": b"user_id,item_id,action\nu,\xff\xfe,view\n"}, "is no table.*UTF-8"),
        ({"interactions.csv": ""}, "has no header"),
        ({"interactions.csv": "user,item_id,action\n"}, "no column for user_id or session_id.*the nearest is 'user'"),
        ({**PLAIN, "liverank.toml": '[data]\nvalue = "prize"'}, "from the column 'prize', which no file has"),
        ({**PLAIN, "liverank.toml": '[data.interactions]\nvalue = "acton"'}, "the nearest is 'action'"),
        ({**LOCAL, "liverank.toml": "[data]\ntime_zone = 'Moon/Sea'\n"}, "time_zone of .data. is 'Moon/Sea'"),
        ({**PLAIN, "candidates.csv": "user_id,items\nu,[1]\n"}, "candidates.csv has no times"),
        ({"interactions.csv": "user_id,item_id,action\nu,i,fly\n"}, "no event of the log can be used: 1 lines"),
        ({**PLAIN, "liverank.toml": NONE_POSITIVE}, "no action is positive"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path, files: dict, says: str) -> None:
    """Each in one line that names the file or the key, and what would be right."""
    with pytest.raises(LiverankError, match=says) as refused:
        list(open_folder(folder_of(tmp_path, files)).records(tmp_path))
    assert "\n" not in str(refused.value)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    """It says what a folder must hold."""
    with pytest.raises(FolderError, match="is no folder"):
        read_log(tmp_path / "nowhere")


def test_ones_own_names_and_plain_ones_give_the_same(tmp_path: Path) -> None:
    """The shop's own columns, and the records written plainly in Parquet, are one log."""
    from online_learning.folder.convert import convert

    data = open_folder(shop(tmp_path / "shop", users=4))
    convert(data, tmp_path / "shop", tmp_path / "plain")
    plain = open_folder(tmp_path / "plain")
    assert list(plain.records(tmp_path)) == list(data.records(tmp_path))
    assert (plain.schema, plain.recipe, plain.lists) == (data.schema, data.recipe, data.lists)
