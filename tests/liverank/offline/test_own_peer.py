"""A person's own ranker: found, asked, and named with the place where it breaks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from liverank.offline.own_peer import PeerError, own_peer
from online_learning.evaluation.list_peers import AskedList
from ranker.contracts.records import Interaction

ASKED = AskedList("u", 1, ("a", "b", "c"))
CLICK = Interaction(user_id="u", item_id="b", action="click", ts=2)
numbers = itertools.count()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(folder: Path, text: str) -> str:
    """A module with this text; its name."""
    name = f"own_ranker_{next(numbers)}"
    (folder / f"{name}.py").write_text(text)
    return name


def peer_of(body: str) -> str:
    """A class whose `rank` does this."""
    return f"class Mine:\n    def rank(self, asked):\n        {body}\n    def learn(self, record):\n        pass\n"


COUNTING = """
class Mine:
    def __init__(self):
        self.seen = []
    def rank(self, asked):
        return [self.seen.count(item) for item in asked.items]
    def learn(self, record):
        self.seen.append(getattr(record, "item_id", None))
"""


def test_a_peer_of_the_current_folder_is_asked_and_learns(here: Path) -> None:
    """Plain numbers will do."""
    peer = own_peer(f"{written(here, COUNTING)}:Mine")
    peer.learn(CLICK)
    assert np.asarray(peer.rank(ASKED)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "Mine", "has no class 'Mine'; it has none"),
        ("class Other: pass", "Mine", "has no class 'Mine'; it has Other"),
        ("def broken(:", "Mine", r"cannot be imported: .*own_ranker_\d+\.py:1: SyntaxError"),
        ("import does_not_exist_here", "Mine", r"cannot be imported: .*own_ranker_\d+\.py:1: ModuleNotFoundError"),
        ("1 / 0", "Mine", r"cannot be imported: .*own_ranker_\d+\.py:1: ZeroDivisionError"),
        ("class Mine:\n    def __init__(self, x): pass", "Mine", "cannot be made without arguments: TypeError"),
        ("class Mine:\n    def learn(self, record): pass", "Mine", "has no method 'rank'"),
        ("class Mine:\n    rank = 1\n    def learn(self, record): pass", "Mine", "has no method 'rank'"),
        ("class Mine:\n    def rank(self, asked): pass", "Mine", "has no method 'learn'"),
    ],
)
def test_what_is_no_peer_says_why(here: Path, text: str, name: str, says: str) -> None:
    """Import, class and methods are looked at before anything is evaluated."""
    with pytest.raises(PeerError, match=says):
        own_peer(f"{written(here, text)}:{name}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing_here:Mine", "no module 'nothing_here' in"),
        ("nothing.here:Mine", "no module 'nothing'"),
        ("nothing", "write it as MODULE:CLASS"),
        (":Mine", "write it as MODULE:CLASS"),
    ],
)
def test_a_name_that_is_none_says_what_would_be_one(name: str, says: str) -> None:
    """No such module, or no such form."""
    with pytest.raises(PeerError, match=says):
        own_peer(name)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return [1, 2]", r"shape \(2,\); a list of 3 items wants as many finite numbers"),
        ("return 1", r"shape \(\); a list of 3"),
        ("return [[1], [2], [3]]", r"shape \(3, 1\)"),
        ("return None", "rank.. gave (nan|None); a list of 3|shape"),
        ("return list(asked.items)", r"rank\(\) gave \['a', 'b', 'c'\]"),
        ("return [1, float('nan'), 2]", r"rank\(\) gave nan; a list of 3"),
        ("return [1, float('inf'), 2]", r"rank\(\) gave inf"),
        ("return {}['x']", r"fails in rank\(\): .*own_ranker_\d+\.py:3: KeyError: 'x'"),
        ("import json; json.loads('{')", r"fails in rank\(\): .*own_ranker_\d+\.py:3: JSONDecodeError"),
    ],
)
def test_what_a_peer_gives_is_looked_at(here: Path, body: str, says: str) -> None:
    """What raises names the person's own line, also where a library raised; no number an item says what is wanted."""
    with pytest.raises(PeerError, match=says):
        own_peer(f"{written(here, peer_of(body))}:Mine").rank(ASKED)


def test_a_peer_that_cannot_learn_names_the_place(here: Path) -> None:
    """As for `rank`."""
    text = "class Mine:\n    def rank(self, asked): return []\n    def learn(self, record):\n        record.nothing\n"
    with pytest.raises(PeerError, match=r"fails in learn\(\): .*own_ranker_\d+\.py:4: AttributeError"):
        own_peer(f"{written(here, text)}:Mine").learn(CLICK)
