"""A liverank.toml that is guessed can be trained by, and says what it is not sure of."""

from __future__ import annotations

from pathlib import Path

import pytest

from online_learning.folder.check import check_log
from online_learning.folder.description import FolderError, read_config
from online_learning.folder.guess import write_guess
from online_learning.folder.log import read_log
from tests.support.folders import PLAIN, START, folder_of, shop

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


def lines_of_impressions(head: str, cells: str) -> str:
    """Sixty lines of twelve lists of five, with more columns, whose cells name the line's number."""
    return f"user_id,item_id,ts,position,{head}\n" + "".join(
        f"u{at // 5 % 4},i{at % 5},{START + at // 5 * 1000},{at % 5},{cells.format(flag=int(at % 5 == 2), at=at)}\n"
        for at in range(60)
    )


ODD_COLUMNS: dict[str, dict[str, str | bytes]] = {
    "a name over two lines": {"interactions.csv": f'user_id,item_id,action,ts,"Order\nDate"\nu,i,click,{START},x\n'},
    "of an item too": {**PLAIN, "items.csv": 'item_id,"Weird\nName","odd # = ""x"""\ni0,abc,1\n'},
    "two clicks": {"impressions.csv": lines_of_impressions("clicked,click_through", "{flag},1")},
    "two of one name": {"impressions.csv": lines_of_impressions("Bought,bought,price,features.price", "1,1,{at},2")},
    "two fields": {"impressions.csv": lines_of_impressions("clicked,device,context.device", "{flag},a{flag},b{flag}")},
    "two numbers": {**PLAIN, "items.csv": "item_id,price,numeric.price\ni0,1,1\n"},
}


@pytest.mark.parametrize("kind", ODD_COLUMNS)
def test_odd_names_of_columns_make_a_file_that_can_be_read(tmp_path: Path, kind: str) -> None:
    """A line break in a header, two columns for one field: nothing is named twice, and what is not used is said."""
    guess = write_guess(folder_of(tmp_path, ODD_COLUMNS[kind]))
    found = read_config(tmp_path)
    assert check_log(read_log(tmp_path), NOW).rejected == 0
    assert "# not used: " in guess.text or [one.name for one in found.schema.positives] == ["click", "click_through"]


def test_what_takes_an_action_back_is_not_wanted(tmp_path: Path) -> None:
    """By its name in a column of actions, and as a flag of its own, which is no feature either."""
    names = ("view", "cart", "remove_from_cart", "purchase", "dislike", "like", "unsubscribe", "order_cancelled")
    lines = "".join(f"u,i{at},{names[at % len(names)]},{START + at}\n" for at in range(40))
    write_guess(folder_of(tmp_path / "events", {"interactions.csv": f"user_id,item_id,action,ts\n{lines}"}))
    found = read_config(tmp_path / "events").schema
    assert {action.name for action in found.positives} == {"cart", "purchase", "like"}
    table = lines_of_impressions("cart,remove_from_cart", "1,{flag}")
    write_guess(folder_of(tmp_path / "lists", {"impressions.csv": table}))
    found = read_config(tmp_path / "lists").schema
    assert [(action.name, action.positive) for action in found.actions[2:]] == [
        ("cart", True), ("remove_from_cart", False),
    ]  # fmt: skip
    assert not found.candidate_features


def test_true_and_false_are_numbers(tmp_path: Path) -> None:
    """As pandas writes them: of candidates a feature, of items a number, and every line of them is read."""
    table = lines_of_impressions("clicked,promoted", "{flag},True").replace("1,True", "True,False")
    guess = write_guess(
        folder_of(tmp_path, {"impressions.csv": table, "items.csv": "item_id,in_stock\ni0,True\ni1,False\n"})
    )
    found = read_config(tmp_path).schema
    assert [feature.name for feature in found.candidate_features] == ["promoted"]
    assert (found.item_numeric, found.context) == (("in_stock",), ())
    assert [one for one in guess.unsure if "known when a list is shown are taken to be promoted" in one]
    facts = check_log(read_log(tmp_path), NOW)
    assert (facts.rejected, facts.choices) == (0, 12)
