"""What is said of a folder: figures that are counted by hand, and a verdict on what can be learned."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from online_learning.data.on_disk import HELD
from online_learning.evaluation.lists import queries
from online_learning.folder.check import LogFacts, check_log
from online_learning.folder.log import open_folder, read_log
from tests.support.folders import PLAIN, START, folder_of, shop

NOW = START + 10**9
HEAD = "user_id,item_id,action,ts,event_id\n"


def facts_of(folder: Path) -> LogFacts:
    """The facts of a folder."""
    return check_log(read_log(folder), NOW)


def test_a_shop_in_figures(tmp_path: Path) -> None:
    """Lists, events and shares of a log without faults, and what can be learned from it."""
    facts = facts_of(shop(tmp_path, users=10, lists_each=4))
    assert (facts.lists, facts.events, facts.users, facts.items_described) == (40, 80, 10, 49)
    assert facts.actions == {"view": 40, "click": 0, "purchase": 40}
    assert (facts.choices, facts.choices_from_a_list, facts.lists_with_a_choice) == (40, 1.0, 1.0)
    assert facts.events_with_described_item is not None and 0.5 < facts.events_with_described_item < 1
    assert (facts.rejected, facts.backwards, facts.repeated_events, facts.ahead) == (0, 0, 0, 0)
    assert facts.verdict.can == ("a model can learn from 40 choices from the lists that were shown, of 10 users over "
                                 f"{facts.items_seen} items",)  # fmt: skip
    assert not facts.verdict.cannot


def test_faults_are_counted(tmp_path: Path) -> None:
    """A repeat by id, one by what it says, a step back, a clock that jumps ahead, a list naming an item twice."""
    late = NOW + 10**12
    lines = [
        f"a,1,click,{START + 10},e1", f"a,1,click,{START + 20},e1", f"a,2,view,{START + 30},e2",
        f"a,2,view,{START + 30},e3", f"b,3,click,{START},e4", f"b,3,view,{late},e5",
    ]  # fmt: skip
    lists = f'user_id,ts,request_id,items\nb,{START - 1},r,"[3,3,4]"\nb,{START - 1},r,"[3,4]"\n'
    facts = facts_of(folder_of(tmp_path, {"interactions.csv": HEAD + "\n".join(lines) + "\n", "candidates.csv": lists}))
    assert (facts.repeated_events, facts.repeated_lists, facts.lists_naming_an_item_twice) == (2, 1, 1)
    assert (facts.backwards, facts.ahead) == (1, 1)
    assert (facts.choices, facts.choices_from_a_list) == (1, 0.3333)
    assert [sentence for sentence in facts.verdict.doubts if "from after now" in sentence]


def test_ids_that_are_numbers_here_and_text_there(tmp_path: Path) -> None:
    """A spreadsheet's 7.0 and a catalogue's 007 are one item to a person: it is said, not guessed."""
    items = "item_id,title\n007,Lamp\n8.0,Chair\n9,Table\n"
    events = HEAD + "".join(f"u,{item},click,{START + at * 10**6},e{at}\n" for at, item in enumerate(("7", "8", "9")))
    facts = facts_of(folder_of(tmp_path, {"interactions.csv": events, "items.csv": items}))
    assert (facts.ids_alike, facts.events_with_described_item) == (2, 0.3333)
    assert [sentence for sentence in facts.verdict.doubts if "another spelling" in sentence]


def test_rejected_lines_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    """Of each field the first three, with file and line."""
    bad = "".join(f"u,i,fly,{START},x{at}\n" for at in range(10)) + f",i,view,{START},y\n"
    facts = facts_of(
        folder_of(tmp_path, {"interactions.csv": PLAIN["interactions.csv"], "interactions-2.csv": HEAD + bad})
    )
    assert (facts.rejected, facts.rejected_by) == (11, {"interactions.action": 10, "interactions.user_id": 1})
    assert [(line.file, line.line) for line in facts.rejected_first] == [
        ("interactions-2.csv", 2), ("interactions-2.csv", 3), ("interactions-2.csv", 4), ("interactions-2.csv", 12),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([f"u,i,view,{START + at * 10**6},e{at}" for at in range(5)], "no positive action .click.*which of view .5."),
        ([f"u{at},i{at},click,{START},e{at}" for at in range(50)], "all is at one time"),
        (["u,i,fly,1,e"], "no event that can be used"),
    ],
)
def test_what_cannot_be_learned_from(tmp_path: Path, lines: list[str], says: str) -> None:
    """Without a positive action, with one time for all, or without any event: it says what to do."""
    facts = facts_of(folder_of(tmp_path, {"interactions.csv": HEAD + "\n".join(lines) + "\n"}))
    assert not facts.verdict.can
    (sentence,) = facts.verdict.cannot
    assert re.search(says, sentence)


def test_lists_that_nobody_chose_from(tmp_path: Path) -> None:
    """Lists of other ids than the events': what to compare is said."""
    lists = f'user_id,ts,items\nu1,{START - 1},"[""x"",""y""]"\n'
    facts = facts_of(folder_of(tmp_path, {**PLAIN, "candidates.csv": lists}))
    assert [sentence for sentence in facts.verdict.cannot if "compare the ids" in sentence]


def test_one_user_is_a_doubt(tmp_path: Path) -> None:
    """It can be learned from, and it is said what is learned."""
    lines = "".join(f"u,i{at % 3},click,{START + at * 10**6},e{at}\n" for at in range(300))
    facts = facts_of(folder_of(tmp_path, {"interactions.csv": HEAD + lines}))
    assert facts.verdict.can
    assert [sentence for sentence in facts.verdict.doubts if "one user" in sentence]


def test_more_people_than_are_held_in_memory(tmp_path: Path) -> None:
    """The lists of who is away lie on disk: a click finds its own, and one on another item finds none."""
    people = range(2 * HELD + 10)
    lists = "".join(f"u{at},{START + at},r{at},a|b\n" for at in people)
    later = START + 10**6
    events = "".join(
        f"u{at},{item},click,{later + at},e{at}{item}\n" for at in people for item in ("bc" if at % 2 else "a")
    )
    config = '[data.candidates]\nitems = { column = "items", separator = "|" }\n'
    files = {"candidates.csv": "user_id,ts,request_id,items\n" + lists, "interactions.csv": HEAD + events}
    facts = facts_of(folder_of(tmp_path, {**files, "liverank.toml": config}))
    assert (facts.users, facts.lists, facts.lists_with_a_choice) == (len(people), len(people), 1.0)
    assert (facts.choices, facts.events) == (len(people), len(people) * 3 // 2)


HOUR = 3_600_000


def people_with_many_tabs(folder: Path, seed: int) -> Path:
    """People who look at several lists at once: some lists come again, some events name one, some come a day late."""
    rng = random.Random(seed)
    lists, events, clock = ["user_id,ts,request_id,items"], ["user_id,item_id,action,ts,request_id"], START
    for at in range(400):
        clock += rng.choice((1000, 1000, HOUR, 9 * HOUR))
        user, request = f"u{rng.randrange(4)}", f"r{rng.randrange(9)}"
        if rng.random() < 0.5:
            items = json.dumps([f"i{one}" for one in rng.sample(range(8), 5)]).replace('"', '""')
            lists.append(f'{user},{clock},{request},"{items}"')
        else:
            named = request if rng.random() < 0.5 else ""
            events.append(f"{user},i{rng.randrange(8)},{rng.choice(('view', 'click'))},{clock + at % 2},{named}")
    return folder_of(folder, {"candidates.csv": "\n".join(lists), "interactions.csv": "\n".join(events)})


@pytest.mark.parametrize("seed", range(4))
def test_choices_are_those_that_are_learned_from(tmp_path: Path, seed: int) -> None:
    """Of several lists at once the one that the event names, or the newest that holds its item, for a day: counted as
    the rows have it that training and evaluation go by."""
    folder = people_with_many_tabs(tmp_path, seed)
    data = open_folder(folder)
    asked = [query for _, query in queries(data.records(folder), data.schema) if query is not None]
    facts = facts_of(folder)
    assert facts.choices == len(asked) > 10
    assert facts.lists_with_a_choice is not None and 0 < facts.lists_with_a_choice <= facts.choices / facts.lists


def test_what_only_looks_repeated(tmp_path: Path) -> None:
    """Three items of one order, and two people's lists of one number, are none; a second time they are."""
    order = "".join(f"{user},{item},click,{START + item},o1\n" for user in "ab" for item in range(3))
    lists = f'user_id,ts,request_id,items\na,{START - 1},1,"[1,2]"\nb,{START - 1},1,"[1,2]"\n'
    folder_of(tmp_path, {"interactions.csv": HEAD + order, "candidates.csv": lists})
    facts = facts_of(tmp_path)
    assert (facts.repeated_events, facts.repeated_lists) == (0, 0)
    folder_of(tmp_path, {"interactions.csv": HEAD + order + f"a,0,click,{START + 9},o1\n", "candidates.csv": lists * 2})
    facts = facts_of(tmp_path)
    assert (facts.repeated_events, facts.repeated_lists) == (1, 2)


def clicks(ts: str = "{at}", user: str = "u{of}", action: str = "click") -> str:
    """Sixty clicks of seven users on five items, an hour apart; each cell may name the line, its user or its time."""
    return HEAD + "".join(
        f"{user},i{at % 5},{action},{ts},e{at}\n".format(at=START + at * HOUR, of=at % 7, day=1 + at % 28)
        for at in range(60)
    )


DEVICE = '[[schema.context]]\nname = "device"\nvalues = ["mobile", "1"]\n'
LISTS = f'user_id,ts,items,context.device\nu1,{START},"[""i0""]",Mobile\nu2,{START},"[""i0""]",mobile\n'
DOUBTED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "an id of pandas": (
        {"interactions.csv": clicks() + clicks(user="nan").partition("\n")[2]}, "ids are called nan (60)",
    ),
    "days": ({"interactions.csv": clicks(ts="2024-05-{day:02}")}, "times are whole days: within one, lists come"),
    "an action": (
        {"interactions.csv": clicks() + clicks(action="scroll").partition("\n")[2] + f"u1,i1,a;b,{START},x\n"},
        "actions that [schema] does not declare: 'scroll' (60), 'a;b' (1)",
    ),
    "items of other ids": ({"interactions.csv": clicks(), "items.csv": "item_id\nSKU-1\ni0\n"}, "20% of the events"),
    "users of other ids": (
        {"interactions.csv": clicks(), "users.csv": "user_id\n1\n"}, "nobody who is described does anything",
    ),
    "a value": (
        {"interactions.csv": clicks(), "candidates.csv": LISTS, "liverank.toml": DEVICE},
        "values of device that [schema] does not declare say nothing: Mobile (1)",
    ),
    "a feature": (
        {"interactions.csv": clicks(), "candidates.csv": LISTS,
         "liverank.toml": '[[schema.candidate_features]]\nname = "price"\n[schema]\nitem_numeric = ["size"]\n'},
        "no line has features.price, numeric.size, which [schema] declares",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DOUBTED)
def test_what_no_file_was_meant_to_say_is_a_doubt(tmp_path: Path, kind: str) -> None:
    """Nothing of it stops anybody, so it has to be said; and nothing like it is said of the other logs."""
    files, says = DOUBTED[kind]
    (doubt,) = [one for one in facts_of(folder_of(tmp_path, files)).verdict.doubts if says in one]
    begins = " ".join(doubt.split()[:3])
    for other, (others, _) in DOUBTED.items():
        if other != kind:
            found = facts_of(folder_of(tmp_path / other, others)).verdict.doubts
            assert not [one for one in found if one.startswith(begins)], other
