"""Readers on small files that each test writes: order, ids, nothing of the future, and errors that help."""

import zipfile

import polars as pl
import pytest

from online_learning.data import DATASETS
from online_learning.data.dataset import DataSetError
from ranker.contracts.decoding import EARLIEST_TS
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Interaction, Item
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY

START = 1_541_600_000
TOUCHES = ["interaction item image", "search for item", "interaction item deals", "filter selection", "clickout item"]


TAKEN = ("view", "search", "deals", "filter", "click")


def trivago_line(second, user, step, action, reference, **more):
    """One line of the log; a clickout shows items 1 to 4."""
    shown = {"impressions": "1|2|3|4", "prices": "50|60||80"} if action == "clickout item" else {}
    line = {
        "user_id": user, "session_id": f"session-of-{user}", "timestamp": START + second, "step": step,
        "action_type": action, "reference": reference, "platform": "DE", "city": "Berlin, Germany",
        "device": "mobile", "current_filters": None, "impressions": None, "prices": None,
    }  # fmt: skip
    return line | shown | more


@pytest.fixture
def trivago(tmp_path):
    """A log of two users, out of order, with many events in one second."""
    lines = [trivago_line(0, "a", step, TOUCHES[step % 5], str(1 + step % 4)) for step in range(1, 21)]
    lines += [trivago_line(second, "b", 10 + second, "interaction item info", "unknown") for second in (0, 1)]
    lines += [trivago_line(second, "b", second + 1, "clickout item", "3") for second in range(3)]
    lines.append(trivago_line(5, "b", 30, "clickout item", "9", current_filters="Hotel|Sort by Price|4 Star"))
    lines.append(trivago_line(6, "b", 31, "clickout item", None))
    path = tmp_path / "log.parquet"
    pl.DataFrame(lines[::-1], infer_schema_length=None).write_parquet(path)
    return path


@pytest.fixture
def yoochoose(tmp_path):
    """Three sessions that interleave, two clicks at one time."""
    path = tmp_path / "clicks.parquet"
    clicks = [(1, 70, 1.4e9), (2, 70, 1.4e9 + 0.25), (1, 71, 1.4e9 + 2), (1, 71, 1.4e9 + 2), (2, 72, 1.4e9 + 1)]
    pl.DataFrame(clicks, schema=["session_id", "item_id", "timestamp"], orient="row").write_parquet(path)
    return path


RATINGS = [("1", "10", 5, 880_000_002), ("2", "10", 3, 880_000_001), ("1", "11", 1, 880_000_002)]
FLAGS = {"10": "0|1|1" + "|0" * 16, "11": "0" + "|0" * 14 + "|1|0|0|0"}


@pytest.fixture
def movielens_100k(tmp_path):
    """GroupLens' own form, in a zip file, with a title that is not ASCII."""
    path = tmp_path / "ml-100k.zip"
    films = "".join(
        f"{item}|{title}|01-Jan-1995||http://x|{FLAGS[item]}\n"
        for item, title in (("10", "Amélie (2001)"), ("11", "Odd"))
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.data", "".join("\t".join(map(str, line)) + "\n" for line in RATINGS))
        archive.writestr("ml-100k/u.item", films.encode("latin-1"))
    return path


@pytest.fixture
def movielens_1m(tmp_path):
    """Two sequences of different lengths, and their films."""
    rows = [("1", 0, "5"), ("1", 1, "6"), ("1", 2, "5"), ("2", 0, "6")]
    pl.DataFrame(rows, schema=["user_id", "position", "item_id"], orient="row").write_parquet(
        tmp_path / "ml-1m.parquet"
    )
    (tmp_path / "ml-1m-items.tsv").write_bytes("5\tAmélie (2001)\tComedy|Romance\n6\tHeat\tCrime\n".encode("latin-1"))
    return tmp_path


@pytest.fixture(params=["trivago", "yoochoose", "movielens_100k", "movielens_1m"])
def read(request):
    """A data set and a path to read it from."""
    return DATASETS[request.param.replace("_", "-")], request.getfixturevalue(request.param)


def events_of(records):
    """All but the catalogue."""
    return [record for record in records if not isinstance(record, Item)]


def test_the_registry_names_each_data_set():
    """A data set is found under its own name, and says where it comes from."""
    assert list(DATASETS) == ["trivago", "yoochoose", "movielens-100k", "movielens-1m"]
    assert all(name == data.name and data.source.startswith("https://") for name, data in DATASETS.items())


def test_records_come_in_order_and_the_catalogue_first(read):
    """No record is older than the one before it, and a user's times strictly increase."""
    data, path = read
    records = list(data.records(path))
    events = events_of(records)
    assert records[len(records) - len(events) :] == events
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    for user in {event.user_id for event in events}:
        times = [event.ts for event in events if event.user_id == user]
        assert times == sorted(set(times))


def test_every_field_a_broker_needs_is_there(read):
    """Ids are unique and come again in a second run; actions are of the schema; times are whole milliseconds."""
    data, path = read
    events = events_of(data.records(path))
    interactions = [event for event in events if isinstance(event, Interaction)]
    ids = [event.event_id for event in interactions]
    assert len(set(ids)) == len(ids) > 0
    assert all(event.action in data.schema.action_names for event in interactions)
    assert all(isinstance(event.ts, int) for event in events)
    assert events == events_of(data.records(path))
    lists = [event.request_id for event in events if isinstance(event, CandidateList)]
    assert len(set(lists)) == len(lists)


def test_the_records_fold(read):
    """What a reader gives is what the fold takes: every event of a user ends up in the row."""
    data, path = read
    rows, counts = {}, {}
    for offset, event in enumerate(events_of(data.records(path))):
        rows[event.user_id] = apply_input(
            rows.get(event.user_id, EMPTY), event, Position("replay", 0, offset, event.ts), data.schema
        )
        counts[event.user_id] = counts.get(event.user_id, 0) + isinstance(event, Interaction)
    assert {user: row.count for user, row in rows.items()} == counts


def test_a_missing_file_is_named(read, tmp_path):
    """The error names the path and what it should hold."""
    data, _ = read
    missing = tmp_path / "absent" / "file.parquet"
    with pytest.raises(DataSetError, match=r"file\.parquet .*(give|wanted)"):
        list(data.records(missing))


@pytest.mark.parametrize("name", ["trivago", "yoochoose", "movielens-1m"])
def test_missing_columns_are_named(name, tmp_path):
    """The error says which columns there are and which are wanted."""
    path = tmp_path / "other.parquet"
    pl.DataFrame({"user_id": ["a"], "colour": ["red"]}).write_parquet(path)
    with pytest.raises(DataSetError, match=r"has the columns user_id, colour; wanted are .*(item_id|reference)"):
        list(DATASETS[name].records(path))


def test_values_of_another_type_are_named(tmp_path):
    """A word where a number belongs is refused with the columns' types."""
    path = tmp_path / "clicks.csv"
    path.write_text("session_id,item_id,timestamp\n1,2,yesterday\n")
    with pytest.raises(DataSetError, match=r"^[^\n]*yesterday[^\n]*timestamp \(Float64\)"):
        list(DATASETS["yoochoose"].records(path))


def test_a_clickout_is_a_list_and_then_its_click(trivago):
    """The list holds what was shown in that order with prices, and nothing tells which item was clicked."""
    events = events_of(DATASETS["trivago"].records(trivago))
    of_user = [event for event in events if event.user_id == "b"]
    shown, click = of_user[0], of_user[1]
    assert isinstance(shown, CandidateList)
    assert [item.item_id for item in shown.items] == ["1", "2", "3", "4"]
    assert [item.features for item in shown.items] == [{"price": 50.0}, {"price": 60.0}, None, {"price": 80.0}]
    assert shown.context == {"device": "mobile", "platform": "DE", "filters": 0.0}
    assert (click.item_id, click.position, click.request_id) == ("3", 2, shown.request_id)
    assert (shown.ts, click.ts) == (START * 1000, START * 1000 + 1)
    assert shown.request_id == "session-of-b-1"


def test_what_is_not_known_is_left_out(trivago):
    """A click beside the list has no position, a withheld target no click, and an unknown item no event."""
    events = events_of(DATASETS["trivago"].records(trivago))
    of_user = [event for event in events if event.user_id == "b"]
    beside, withheld = of_user[-2], of_user[-1]
    assert (beside.item_id, beside.position) == ("9", None)
    assert of_user[-3].context == {"device": "mobile", "platform": "DE", "filters": 2.0, "sort": "sort by price"}
    assert isinstance(withheld, CandidateList)
    assert len(of_user) == 2 * 4 + 1


def test_many_events_of_one_second_keep_their_order(trivago):
    """Steps of one second stay in order, a millisecond apart; a filter is an event on an item of its own."""
    events = [event for event in events_of(DATASETS["trivago"].records(trivago)) if event.user_id == "a"]
    steps = [int(event.event_id.rsplit("-", 1)[1]) for event in events if isinstance(event, Interaction)]
    assert steps == list(range(1, 21))
    filters = {event.item_id for event in events if isinstance(event, Interaction) and event.action == "filter"}
    assert filters == {"filter:4", "filter:1", "filter:2", "filter:3"}
    assert [event.ts for event in events] == [START * 1000 + place for place in range(len(events))]
    assert {event.action for event in events if isinstance(event, Interaction)} == {*TAKEN}


def test_a_csv_file_reads_like_the_parquet_file(trivago, tmp_path):
    """The challenge publishes CSV; both give the same records."""
    path = tmp_path / "log.csv"
    pl.read_parquet(trivago).write_csv(path)
    assert list(DATASETS["trivago"].records(path)) == list(DATASETS["trivago"].records(trivago))


def test_the_shops_own_file_reads_too(yoochoose, tmp_path):
    """The owners' lines have no header and times as text."""
    path = tmp_path / "yoochoose-clicks.dat"
    path.write_text("7,2014-04-07T10:51:09.277Z,214536502,0\n7,2014-04-07T10:54:09.868Z,214536500,S\n")
    events = list(DATASETS["yoochoose"].records(path))
    assert [(event.user_id, event.item_id, event.ts) for event in events] == [
        ("7", "214536502", 1_396_867_869_277),
        ("7", "214536500", 1_396_868_049_868),
    ]
    assert [event.event_id for event in DATASETS["yoochoose"].records(yoochoose)] == ["1-0", "2-0", "2-1", "1-1", "1-2"]


def test_films_and_ratings_of_both_forms(movielens_100k, tmp_path):
    """GroupLens' and RecBole's files hold the same films and ratings."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *("\t".join(map(str, r)) for r in RATINGS)]
    (folder / "ml-100k.inter").write_text("\n".join(lines) + "\n")
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tAmélie\t2001\tAction Adventure\n11\tOdd\tunkonwn\tSci-Fi\n",
        encoding="utf-8",
    )
    records = list(DATASETS["movielens-100k"].records(folder))
    assert records == list(DATASETS["movielens-100k"].records(movielens_100k))
    film, odd = records[:2]
    assert (film.title, film.category, film.tags) == ("Amélie (2001)", "Action", ["Action", "Adventure"])
    assert (film.published_at, odd.published_at) == (978_307_200_000, None)
    assert [(event.event_id, event.action, event.value) for event in records[2:]] == [
        ("2-10", "view", 3.0),
        ("1-10", "like", 5.0),
        ("1-11", "dislike", 1.0),
    ]


def test_a_damaged_line_is_named(tmp_path):
    """A line of ratings with a field missing is refused, with the path and the files wanted."""
    (tmp_path / "u.data").write_text("1\t2\t3\n")
    (tmp_path / "u.item").write_text(f"10|Heat|01-Jan-1995||x|{FLAGS['10']}\n")
    with pytest.raises(DataSetError, match=r"has a line of another form: .*wanted are the files u\.data and u\.item"):
        list(DATASETS["movielens-100k"].records(tmp_path))


def test_sequences_advance_abreast(movielens_1m):
    """Each user's nth film has the same made-up time, late enough for a broker to take."""
    records = list(DATASETS["movielens-1m"].records(movielens_1m))
    events = events_of(records)
    assert [event.event_id for event in events] == ["1-0", "2-0", "1-1", "1-2"]
    assert [event.ts - events[0].ts for event in events] == [0, 0, 1000, 2000]
    assert events[0].ts >= EARLIEST_TS
    assert records[0].title == "Amélie (2001)"
    assert records == list(DATASETS["movielens-1m"].records(movielens_1m / "ml-1m.parquet"))
