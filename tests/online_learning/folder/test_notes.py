"""What a report on a folder must say: what is taken for what, what nobody reads, and what is left out."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from online_learning.folder.description import FolderError
from online_learning.folder.log import open_folder, read_log
from tests.support.folders import PLAIN, START, folder_of, shop

ROWS = "".join(f"u{at // 5 % 4},i{at % 5},{int(at % 5 == 2)}\n" for at in range(60))


def test_what_the_schema_does_not_declare_is_told(tmp_path: Path) -> None:
    """Features, context, attributes, numbers and a score that are read and never learned from; and no others."""
    files = {
        **PLAIN,
        "candidates.csv": "user_id,ts,items,score,features.price,features.age,context.device\n"
        f'u,{START},"[""a""]","[1]","[1]","[2]",mobile\n',
        "items.csv": "item_id,title,numeric.weight,numeric.size\ni0,Lamp,3,4\n",
        "users.csv": "user_id,attributes.tier\nu0,gold\n",
        "liverank.toml": '[schema]\nitem_numeric = ["size"]\n[[schema.candidate_features]]\nname = "age"\n',
    }
    (note,) = [note for note in read_log(folder_of(tmp_path, files)).notes if "nothing is learned" in note]
    named = "features.price, context.device, score, numeric.weight, attributes.tier"
    assert note == f"nothing is learned from {named}: [schema] does not declare them"


def test_a_folder_whose_schema_declares_all_of_it_has_no_notes(tmp_path: Path) -> None:
    """Nothing is said where there is nothing to say."""
    files = {"liverank.toml": (shop(tmp_path) / "liverank.toml").read_text() + "[data.items]\nnumeric = []\n"}
    folder_of(tmp_path, files)
    (tmp_path / "items.csv").write_text("sku,title\n1,Thing\n")
    assert read_log(tmp_path).notes == ()


def test_an_action_of_impressions_that_nobody_declared_is_refused(tmp_path: Path) -> None:
    """Its flags would be read by nobody: what was bought would be what was passed over."""
    config = '[data.impressions]\nactions.click = "clicks"\nactions.purchase = "bought"\n'
    table = f"user_id,item_id,ts,clicks,bought\nu,i,{START},1,1\n"
    folder_of(tmp_path, {"impressions.csv": table, "liverank.toml": config})
    with pytest.raises(FolderError, match=r"names a column for actions.purchase, and .schema. declares no such action"):
        read_log(tmp_path)
    more = '[schema]\nactions = [{ name = "view" }, { name = "click" }, { name = "purchase", positive = true }]\n'
    folder_of(tmp_path, {"liverank.toml": config + more})
    assert [record.action for record in open_folder(tmp_path).records(tmp_path) if hasattr(record, "action")] == [
        "click",
        "purchase",
    ]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("user_id,item_id,click", ["no request_id and no ts: all lines of a user are one list", "no position: the"]),
        ("user_id,item_id,position", ["no request_id and no ts: all lines of a user are one list"]),
        ("request_id,item_id,click", ["no position: the order of a list's lines stands for the order shown"]),
    ],
)
def test_what_lines_of_a_list_do_not_say_is_told(tmp_path: Path, head: str, said: list[str]) -> None:
    """Which of them are one list, and in which order they were shown."""
    config = '[data]\nuser_id = "request_id"\n' if "user_id" not in head else ""
    folder_of(tmp_path, {"impressions.csv": f"{head}\n{ROWS}", "liverank.toml": config})
    notes = [note for note in read_log(tmp_path).notes if note.startswith("impressions.csv")]
    assert len(notes) == len(said) and all(one in note for one, note in zip(said, notes, strict=True))


def test_lines_that_are_left_out_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often a log is read: one warning, and a note for the report."""
    bad = PLAIN["interactions.csv"] + f"u,i,fly,{START}\nu,i,fly,{START}\n"
    data = open_folder(folder_of(tmp_path, {"interactions.csv": bad}))
    before = list(data.notes)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(list(data.records(tmp_path))) == 20
    (note,) = [note for note in data.notes if note not in before]
    assert note.startswith(f"2 lines of {tmp_path} are left out, the first interactions.csv:22: action is 'fly'")
    assert len(caplog.records) == 1
