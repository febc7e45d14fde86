"""A liverank.toml that is guessed can be trained by, and says what it is not sure of."""

from __future__ import annotations

from pathlib import Path

import pytest

from online_learning.folder.check import check_log
from online_learning.folder.description import FolderError, read_config
from online_learning.folder.guess import write_guess
from online_learning.folder.log import read_log
from tests.support.folders import START, folder_of, shop

NOW = START + 10**9


def test_a_shop_is_guessed(tmp_path: Path) -> None:
    """Columns of other names, a separator, seconds, prices as a feature, orders as positive; nothing is lost."""
    folder = shop(tmp_path, users=10)
    (folder / "liverank.toml").unlink()
    guess = write_guess(folder)
    found = read_config(folder)
    assert [(action.name, action.positive) for action in found.schema.actions] == [
        ("view", False), ("click", False), ("order", True),
    ]  # fmt: skip
    assert [feature.name for feature in found.schema.candidate_features] == ["prices"]
    assert found.schema.item_numeric == ("weight",)
    facts = check_log(read_log(folder), NOW)
    assert (facts.rejected, facts.choices, facts.lists_with_a_choice) == (0, 50, 1.0)
    assert [sentence for sentence in guess.unsure if "positive are taken to be order, of " in sentence]


def test_a_table_of_impressions_is_guessed(tmp_path: Path) -> None:
    """Rank, flags, a session for a user, and a context field of few values."""
    head = "session,sku,rank,time,device,price,clicked,purchases\n"
    lines = "".join(
        f"s{at // 3},i{at % 7},{at % 3 + 1},{START // 1000 + at // 3},{('phone', 'desk')[at % 6 // 3]},{at}.5,"
        f"{int(at % 3 == 1)},0\n"
        for at in range(60)
    )
    guess = write_guess(folder_of(tmp_path, {"impressions.csv": head + lines}))
    found = read_config(tmp_path)
    assert {action.name for action in found.schema.positives} == {"click", "purchases"}
    assert [(field.name, field.values) for field in found.schema.context] == [("device", ("desk", "phone"))]
    facts = check_log(read_log(tmp_path), NOW)
    assert (facts.rejected, facts.lists, facts.choices) == (0, 20, 20)
    assert "rank" in guess.text


def test_events_alone_have_their_lists_recalled(tmp_path: Path) -> None:
    """Without lists: how many items are recalled stands there, and what recall needs."""
    head = "visitor,product_id,event,timestamp\n"
    lines = "".join(
        f"v{at % 4},{at % 9},{('pageview', 'addtocart')[at % 2]},2024-05-01T12:00:{at:02}Z\n" for at in range(50)
    )
    write_guess(folder_of(tmp_path, {"interactions.csv": head + lines}))
    found = read_config(tmp_path)
    assert (found.data.recall, found.recipe.neighbours) == (100, 64)
    assert [action.name for action in found.schema.positives] == ["addtocart"]
    assert check_log(read_log(tmp_path), START + 10**12).rejected == 0


def test_a_million_categories_do_not_become_a_schema(tmp_path: Path) -> None:
    """A column of very many values is no field of the context, and the file stays small."""
    head = "user_id,ts,items,shop\n"
    lines = "".join(f'u,{START + at},"[1,2]",shop {at}\n' for at in range(5000))
    events = f"user_id,item_id,action,ts\nu,1,click,{START}\n"
    guess = write_guess(folder_of(tmp_path, {"candidates.csv": head + lines, "interactions.csv": events}))
    assert not read_config(tmp_path).schema.context
    assert len(guess.text) < 3000 and "too many values" in guess.text


def test_an_empty_folder_gets_the_default(tmp_path: Path) -> None:
    """It can be read, and is the default schema."""
    from ranker.contracts.schema import FeatureSchema

    guess = write_guess(tmp_path / "new")
    assert read_config(tmp_path / "new").schema == FeatureSchema()
    assert "no files yet" in guess.unsure[0]


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    """Unless it is asked for."""
    write_guess(tmp_path)
    (tmp_path / "liverank.toml").write_text("# mine\n")
    with pytest.raises(FolderError, match="is there already; --force"):
        write_guess(tmp_path)
    assert (tmp_path / "liverank.toml").read_text() == "# mine\n"
    write_guess(tmp_path, force=True)
