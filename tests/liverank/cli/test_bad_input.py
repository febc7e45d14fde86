"""What bad input gets at the command line: a sentence with its place and what would be right, or it is handled."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest
import zstandard

from tests.support.command import Ran, run_command
from tests.support.folders import PLAIN, START, folder_of
from tests.support.tiny import tiny_bundle

HEAD = "user_id,item_id,action,ts\n"
LINES = HEAD + "".join(f"u{at % 4},i{at % 5},{('view', 'click')[at % 2]},{START + at * 1000}\n" for at in range(400))
SMALL = "[recipe]\nepochs = 1\n[model]\nd = 16\nhidden = 16\n"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No broker, an empty registry, and no settings but a test's own."""
    for name in [name for name in os.environ if name.startswith("LIVERANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LIVERANK_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("LIVERANK_DATA", str(tmp_path / "worker"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one bundle."""
    folder = tmp_path_factory.mktemp("published")
    tiny_bundle(folder)
    return folder


def table(**changes: object) -> str:
    """Lines of interactions with one column changed on each: a value, or a function of the line's number."""
    names = ["user_id", "item_id", "action", "ts"]
    rows = [",".join(names)]
    for at in range(60):
        row = {"user_id": f"u{at % 4}", "item_id": f"i{at % 5}", "action": "click", "ts": START + at * 1000}
        row |= {name: value(at) if callable(value) else value for name, value in changes.items()}
        rows.append(",".join(str(row[name]) for name in names))
    return "\n".join(rows) + "\n"


def lists_of(count: int) -> str:
    items = "|".join(f"i{at}" for at in range(count))
    return f"user_id,ts,items\nu1,{START},{items}\n"


BARS = '[data.candidates]\nitems = { column = "items", separator = "|" }\n'

#: What cannot be learned from: the files, and what every command says of them.
REFUSED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "nothing": ({}, "holds no events; it must hold interactions"),
    "nothing of ours": ({"events.xls": b"x", "interactions.xlsx": b"x"}, "none of which is interactions.xlsx"),
    "a folder for a file": ({"interactions.csv/part.csv": LINES}, "interactions.csv (a folder: call it interactions)"),
    "no table": ({"interactions.csv": b"\x00\x01\xff"}, "interactions.csv is no text; it must be lines of text"),
    "no parquet": ({"interactions.parquet": b"rubbish"}, "interactions.parquet is no table"),
    "cut gz": ({"interactions.csv.gz": gzip.compress(LINES.encode())[:-200]}, "is no table (Compressed file ended"),
    "cut zst": ({"interactions.csv.zst": zstandard.compress(LINES.encode())[:-20]}, "is no table (compressed file"),
    "no gz": ({"interactions.csv.gz": LINES}, "is no table (Not a gzipped file"),
    "latin-1": ({"interactions.csv": (LINES + "Zoë,i,view,1\n").encode("latin1")}, "line 402 is not UTF-8"),
    "an array": ({"interactions.jsonl": '[{"user_id": "u"}]\n'}, "that can be read (line 1: it is no JSON object)"),
    "an empty file": ({"interactions.jsonl": ""}, "holds nothing; it must be one JSON object a line"),
    "two forms": ({"interactions.csv": LINES, "interactions.csv.gz": b"x"}, "one table in two forms"),
    "a column twice": ({"interactions.csv": "user_id,item_id,item_id\n"}, "names 2 columns 'item_id'"),
    "no column": ({"interactions.csv": "usr,item_id,action\nu,i,click\n"}, "the nearest is 'usr'"),
    "unknown column": ({**PLAIN, "liverank.toml": '[data]\nvalue = "prize"\n'}, "'prize', which no file has"),
    "unknown key": ({**PLAIN, "liverank.toml": '[data]\nitm = "x"\n'}, "nobody reads 'itm' of [data]; the nearest"),
    "unknown table": ({**PLAIN, "liverank.toml": "[dta]\n"}, "nobody reads 'dta'; the nearest is 'data'"),
    "no TOML": ({**PLAIN, "liverank.toml": "[data\n"}, "liverank.toml cannot be read"),
    "wrong type": ({**PLAIN, "liverank.toml": "[data]\nrecall = 'all'\n"}, "it must be a whole number of items, 0 to"),
    "long delimiter": ({**PLAIN, "liverank.toml": "[data]\ndelimiter = '||'\n"}, "it must be one character"),
    "wrong mode": ({**PLAIN, "liverank.toml": "[trainer]\nmode = 'adapter'\n"}, "one of rows, adapters, full"),
    "wrong recipe": ({**PLAIN, "liverank.toml": "[recipe]\ndropout = 1.5\n"}, "$.dropout"),
    "no action": ({"interactions.csv": table(action="fly")}, "is 'fly'; valid are view, click"),
    "all of 1970": ({"interactions.csv": table(ts=lambda at: START // 1000 + at)}, "before the year 1990; set time"),
}  # fmt: skip


def asked(command: str, folder: Path, out: Path) -> Ran:
    """One of the commands that read a folder."""
    given = {
        "check": ["data", "check", folder],
        "train": ["train", folder, "--registry", out],
        "evaluate": ["evaluate", folder, "--registry", out],
        "replay": ["replay", folder],
    }
    return run_command(*given[command])


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_learned_from_is_one_sentence(tmp_path: Path, kind: str, command: str) -> None:
    """Exit 1, the place and what would be right; nothing is left in the registry, not even its folder."""
    files, says = REFUSED[kind]
    ran = asked(command, folder_of(tmp_path / "log", files) if files else _empty(tmp_path / "log"), tmp_path / "out")
    assert ran.code == 1
    assert says in ran.out + ran.err
    assert not (tmp_path / "out").exists()


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("command", ["evaluate", "replay"])
@pytest.mark.parametrize("kind", ["no table", "unknown table", "two forms"])
def test_evaluation_and_replay_say_the_same(tmp_path: Path, kind: str, command: str) -> None:
    """Before they ask a registry or a broker for anything."""
    files, says = REFUSED[kind]
    ran = asked(command, folder_of(tmp_path / "log", files), tmp_path / "out")
    assert ran.code == 1 and says in ran.problem


#: What is handled: the files, and what the check says of them.
HANDLED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "one user": ({"interactions.csv": table(user_id="u")}, "there is one user: what is learned is one person's taste"),
    "no lists": ({"interactions.csv": LINES}, "the log has no lists: 100 items are recalled"),
    "no times": ({"interactions.csv": "user_id,item_id,action\n" + "u,i,click\n" * 9}, "the log has no times"),
    "spaces, scripts, emoji": ({"interactions.csv": table(user_id="Zoë 🛒", item_id="物 品")}, "of 1 users over 1"),
    "4 KB": ({"interactions.csv": LINES + f"{'x' * 4096},i,click,{START}\n"}, "has 4096 characters; at most 256"),
    "a list naming an item twice": (
        {"interactions.csv": LINES, "candidates.csv": f"user_id,ts,items\nu1,{START},i1|i2|i1\n",
         "liverank.toml": BARS},
        "1 lists name an item twice: the first stays",
    ),
    "a list of 5000": (
        {"interactions.csv": LINES, "candidates.csv": lists_of(3) + lists_of(5000).partition("\n")[2],
         "liverank.toml": BARS},
        "candidates.csv:3: items has 5000 items; it must have 1 to 1000",
    ),
    "a clock that jumps": (
        {"interactions.csv": table(ts=lambda at: START + at * 1000 + (10**12 if at == 30 else 0))},
        "1 lines are from after now: look at the unit of time and at the clock",
    ),
    "duplicates": ({"interactions.csv": LINES + LINES.partition("\n")[2]}, "400 events come again"),
    "items twice": ({**PLAIN, "items.csv": "item_id,title\ni1,a\ni1,b\n"}, "1 items are described again"),
    "windows": ({"interactions.csv": b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode()}, "can learn from 200"),
    "utf-16": ({"interactions.csv": LINES.replace(",", "\t").encode("utf-16")}, "can learn from 200"),
    "capitals": ({"interactions.CSV": LINES}, "can learn from 200"),
    "semicolons": ({"interactions.csv": LINES.replace(",", ";")}, "can learn from 200"),
    "tabs in csv": ({"interactions.csv": LINES.replace(",", "\t")}, "can learn from 200"),
    "spaces after commas": ({"interactions.csv": LINES.replace("user_id,item", "user_id, item")}, "can learn from 200"),
    "an open quote": ({"interactions.csv": LINES + '"u,i,click,1\nu,i,click,1\n'}, "goes on to line 403: is a quote"),
    "another form beside": ({**PLAIN, "candidates.xlsx": b"x"}, "not read: candidates.xlsx; what is read ends in .csv"),
    "a million ids": ({"interactions.csv": table(value=1, item_id=lambda at: f"i{at}")}, "over 60 items"),
    "NUL": ({"interactions.csv": table(item_id="a\0b")}, "over 1 items"),
    "a mark in the settings": ({**PLAIN, "liverank.toml": "\ufeff[data]\nrecall = 5\n"}, "5 items are recalled"),
    "null of databases": ({"interactions.csv": LINES + f"NULL,i,click,{START}\n"}, "user_id is absent"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HANDLED)
def test_what_is_odd_is_handled_and_told(tmp_path: Path, kind: str) -> None:
    """Exit 0, what can be learned, and what was done with what is odd."""
    files, says = HANDLED[kind]
    ran = run_command("data", "check", folder_of(tmp_path / "log", files), "--json", tmp_path / "facts.json")
    assert ran.code == 0, ran
    assert says in ran.out
    assert json.loads((tmp_path / "facts.json").read_text())["verdict"]["can"]


@pytest.mark.parametrize("kind", [*REFUSED, *HANDLED])
def test_a_guess_can_be_read_or_says_why_there_is_none(tmp_path: Path, kind: str) -> None:
    """`init` writes a file that is read again, or nothing and one sentence."""
    files, _ = (REFUSED | HANDLED)[kind]
    folder = folder_of(tmp_path / "log", {"notes.txt": "", **files})
    (folder / "liverank.toml").unlink(missing_ok=True)
    ran = run_command("init", folder, "--json", tmp_path / "guess.json")
    assert ran.code in (0, 1)
    assert (folder / "liverank.toml").exists() == (ran.code == 0)
    if ran.code:
        assert ran.problem
    else:
        assert json.loads((tmp_path / "guess.json").read_text())["text"] == (folder / "liverank.toml").read_text()
        run_command("data", "check", folder)


def test_no_positive_action_leaves_nothing(tmp_path: Path) -> None:
    """The check says which actions there are, training that there is nothing to learn; both exit 1."""
    folder = folder_of(tmp_path / "log", {"interactions.csv": table(action="view")})
    ran = asked("check", folder, tmp_path)
    assert ran.code == 1 and "say in [schema] which of view (60), click (0) are positive" in ran.out
    ran = asked("train", folder, tmp_path / "out")
    assert ran.code == 1 and "no list that drew a positive action" in ran.problem
    assert not (tmp_path / "out").exists()


def test_all_at_one_time_is_told(tmp_path: Path) -> None:
    """Nothing is before anything else: the check exits 1, and so does an evaluation of what is newest."""
    folder = folder_of(tmp_path / "log", {"interactions.csv": table(ts=START)})
    ran = asked("check", folder, tmp_path)
    assert ran.code == 1 and "all is at one time" in ran.out
    ran = run_command("evaluate", folder)
    assert ran.code == 1 and "all was chosen at one time" in ran.problem


def test_a_million_categories_are_a_catalogue(tmp_path: Path) -> None:
    """Each item of its own category: nothing grows with them but the catalogue."""
    items = pl.DataFrame(
        {"item_id": [f"i{at}" for at in range(50_000)], "category": [f"c{at}" for at in range(50_000)]}
    )
    folder = folder_of(tmp_path / "log", {"interactions.csv": LINES})
    items.write_parquet(folder / "items.parquet")
    ran = asked("check", folder, tmp_path)
    assert ran.code == 0 and "can learn from 200" in ran.out
    (folder / "interactions.csv").rename(folder / "interactions-1.csv")
    assert run_command("init", folder).code == 0
    assert len((folder / "liverank.toml").read_text()) < 3000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "check", "nowhere"], "nowhere is no folder"),
        (["data", "check", "a-file"], "a-file is a file; give the folder that holds it"),
        (["init", "a-file"], "a-file is a file; give the folder that holds it"),
        (["train", "a-file"], "a-file is a file; give the folder that holds it"),
        (["train", "log", "--registry", "a-file"], "the registry a-file cannot be written: "),
        (["train", "log", "--registry", "a-file/in-it"], "a-file is a file; give a folder"),
        (["train", "log", "--registry", "nosuch://x"], "the registry nosuch://x cannot be written: Protocol not known"),
        (["train", "log", "--since", "soon"], "'soon' is no time; write it as 2018-11-08T00:00"),
        (["evaluate", "log", "--sync", "10"], "'10' is no duration"),
        (["evaluate", "log", "--mode", "offline"], "valid are frozen, online"),
        (["evaluate", "log", "--train-until", "2023-11-15", "--test-from", "2023-11-14"], "give a --test-from"),
        (["evaluate", "log", "--train-until", "2023-11-15", "--from", "starter"], "give one of the two"),
        (["evaluate", "log", "--registry", "empty"], "has no model 'default'; `liverank train` makes a first one"),
        (["rank", "events.jsonl", "--registry", "nosuch://x"], "nosuch://x"),
        (["rank", "events.jsonl", "--version", "../x"], "'../x' names no version"),
        (["model", "show", "--version", "x"], "has no bundle 'x' of model 'default'"),
        (["model", "show", "--registry", "nosuch://x"], "nosuch://x"),
        (["model", "list"], "no Kafka broker answers at 127.0.0.1:1: connection refused"),
        (["model", "promote", "x"], "no Kafka broker answers at 127.0.0.1:1"),
        (["dead-letters"], "no Kafka broker answers at 127.0.0.1:1"),
        (["state", "u"], "no Kafka broker answers at 127.0.0.1:1"),
        (["replay", "log"], "no Kafka broker answers at 127.0.0.1:1"),
        (["replay", "events.jsonl"], "no Kafka broker answers at 127.0.0.1:1"),
        (["config", "show", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["config", "show", "--config", "log"], "log cannot be read"),
        (["up", "a-file", "--headless"], "is a file; give a folder"),
        (["up", "broken", "--headless"], "interactions.csv has no header"),
        (["up", "wrong", "--headless"], "mode of [trainer] is 'adapter'; it must be one of rows, adapters, full"),
        (["up", "empty", "--headless", "--broker", "kafak"], "unknown broker 'kafak'; valid are: the address"),
        (["demo", "--headless", "--data", "nowhere"], "nowhere"),
        (["bench", "starter", "--data", "nowhere"], "nowhere"),
        (["data", "convert", "trivago", "--data", "nowhere", "--out", "out"], "nowhere does not exist; give a file"),
        (["data", "convert", "trivia", "--data", "x", "--out", "out"], "there is no folder and no data set 'trivia'"),
        (["schema", "--out", "a-file"], "a-file: File exists"),
        (["rank", "absent.jsonl"], "has no model 'default'; `liverank train` makes a first one"),
        (["model", "verify"], "has no model 'default'"),
        (["train", "nothing", "--data", "x"], "there is no folder and no data set 'nothing'; give a folder"),
        (["replay", "absent.jsonl"], "there is no folder and no data set 'absent.jsonl'"),
        (["topics", "check"], "no Kafka broker answers at 127.0.0.1:1"),
        (["topics", "create", "--config", "misspelt.toml"], "nobody reads 'brocker' of [liverank]; the nearest is"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)  # fmt: skip
def test_a_wrong_call_is_one_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    """A missing file, folder, broker or library, a wrong address or name: exit 1, one line, before anything starts."""
    folder_of(tmp_path, {"a-file": "x", "events.jsonl": "{}", "log/interactions.csv": LINES, "empty/notes.txt": ""})
    folder_of(tmp_path, {"broken/interactions.csv": "", "wrong/liverank.toml": "[trainer]\nmode = 'adapter'\n"})
    folder_of(tmp_path, {"misspelt.toml": "[liverank]\nbrocker = 'x'\n"})
    ran = run_command(*arguments)
    assert ran.code == 1, ran
    assert says in ran.problem


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "log", "--epochs", "0"], "--epochs"),
        (["config", "show", "--json", "nowhere/out.json"], "cannot be written; give a file in a folder that is there"),
        (["config", "show", "--json", "."], "cannot be written"),
        (["dead-letters", "--newest", "0"], "--newest"),
        (["broker", "--port", "70000"], "--port"),
        (["up", "--port", "-1"], "--port"),
        (["trian"], "trian"),
        (["model", "promote"], "'version'"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)  # fmt: skip
def test_a_call_that_cannot_be_read_is_exit_2(arguments: list[str], says: str) -> None:
    """An option that is none, or has a value that it cannot have, is told before anything is done."""
    ran = run_command(*arguments)
    assert ran.code == 2
    assert says in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "events.jsonl:2: not JSON in UTF-8"),
        (b"\xff", "events.jsonl:2: not JSON in UTF-8"),
        ('{"topic": "fish", "value": {}}', "events.jsonl:2: the topic is 'fish'; valid are clicks, views"),
        ('{"user_id": "u", "item_id": 7}', "events.jsonl:2: Expected `str | null`"),
        ('{"user_id": "u", "item_id": "a", "action": "fly"}', "events.jsonl:2: the action 'fly' is given; valid are"),
        ('{"user_id": "u", "item_id": "a", "ts": 99999999999999}', "events.jsonl:2: ts is"),
        ('{"topic": "clicks", "key": null, "value": {}}', "events.jsonl:2: the message has no key"),
    ],
)
def test_a_line_that_cannot_be_ranked_is_named(registry: Path, tmp_path: Path, line: str | bytes, says: str) -> None:
    """`rank` says which line of the file a worker would refuse, and why."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b'{"item_id":"a"}\n' + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    ran = run_command("rank", events, "--registry", registry)
    assert ran.code == 1 and says in ran.problem


def test_a_full_disk_is_one_sentence() -> None:
    """A report that cannot be written says so."""
    ran = run_command("config", "show", "--json", "/dev/full")
    assert ran.code == 1 and ran.problem == "error: /dev/full cannot be written: No space left on device; " \
        "give another file with --json"  # fmt: skip


def test_ctrl_c_is_one_line_and_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes: no traceback, and the status that shells know."""
    from online_learning.folder import log

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "read_config", interrupted)
    ran = run_command("data", "check", folder_of(tmp_path / "log", PLAIN))
    assert (ran.code, ran.err.strip()) == (130, "interrupted")


@pytest.mark.parametrize("name", ["[red]item[/red]", "[/no]", "a\\[b", ":smile:"])
def test_what_is_printed_is_no_markup(tmp_path: Path, name: str) -> None:
    """An id, a path or an error of a stranger's is printed as it is, whatever signs it has."""
    ran = run_command("data", "check", name)
    assert ran.problem.startswith(f"error: {name} is no folder")
    folder = folder_of(tmp_path / "log", {"interactions.csv": table(action=name.replace(",", ""))})
    assert f"is {name!r}; valid are view, click" in run_command("data", "check", folder).out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written_is_named(tmp_path: Path) -> None:
    """A file or a folder without the right to it."""
    folder = folder_of(tmp_path / "log", PLAIN)
    (folder / "interactions.csv").chmod(0)
    assert "interactions.csv cannot be read: Permission denied" in run_command("data", "check", folder).problem
    (tmp_path / "closed").mkdir(mode=0o500)
    ran = run_command("train", folder, "--registry", tmp_path / "closed" / "registry")
    assert "cannot be written" in ran.problem
