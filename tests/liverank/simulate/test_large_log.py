"""The large made-up folder is a folder as others are, of the size that was asked for."""

from __future__ import annotations

from pathlib import Path

from liverank.simulate.large_log import LogSizes, write_large_log
from online_learning.folder.check import check_log
from online_learning.folder.log import read_log

NOW = 1_800_000_000_000


def test_a_folder_of_the_sizes_asked_for(tmp_path: Path) -> None:
    """Lists, items and users are counted, and nothing is wrong with any; the same seed makes the same log."""
    sizes = LogSizes(lists=300, length=20, items=430, users=40)
    write_large_log(tmp_path / "one", sizes)
    write_large_log(tmp_path / "other", sizes)
    facts, other = (check_log(read_log(tmp_path / name), NOW) for name in ("one", "other"))
    assert facts == other
    assert (facts.lists, facts.items_described, facts.users) == (300, 430, 40)
    assert 250 < facts.choices < 300 and facts.actions["view"] == 600
    assert facts.events_with_described_item == facts.choices_from_a_list == 1.0
    faults = (facts.rejected, facts.repeated_events, facts.repeated_lists, facts.lists_naming_an_item_twice)
    assert faults == (0, 0, 0, 0)
