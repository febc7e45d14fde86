"""Folders of files as people have them, made up."""

from __future__ import annotations

import random
from pathlib import Path

START = 1_700_000_000_000

PLAIN = {
    "interactions.csv": "user_id,item_id,action,ts\n" + "".join(
        f"u{at % 3},i{at % 5},{'click' if at % 2 else 'view'},{START + 1000 * at}\n" for at in range(20)
    ),
}  # fmt: skip


def folder_of(path: Path, files: dict[str, str | bytes]) -> Path:
    """A folder with these files: name -> content."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def shop(path: Path, users: int = 30, lists_each: int = 5, seed: int = 0) -> Path:
    """A small shop as CSV with columns of its own: people look at something of the list, and mostly buy that."""
    rng = random.Random(seed)
    events, lists = ["visitor,sku,kind,seconds,search"], ["visitor,seconds,search,skus,prices"]
    clock = 1_700_000_000
    for number in range(users * lists_each):
        user, clock = f"visitor {number % users}", clock + rng.randrange(5, 60)
        shown = rng.sample(range(1, 60), 8)
        prices = "|".join(f"{rng.uniform(1, 90):.2f}" for _ in shown)
        lists.append(f"{user},{clock},s{number},{'|'.join(map(str, shown))},{prices}")
        liked = rng.choice(shown)
        events.append(f"{user},{liked},look,{clock + 1},s{number}")
        events.append(f"{user},{liked if rng.random() < 0.8 else rng.choice(shown)},order,{clock + 2},s{number}")
    items = [
        "sku,title,category,numeric.weight",
        *(f"{sku},Thing {sku},kind {sku % 4},{sku / 7:.3f}" for sku in range(1, 50)),
    ]
    return folder_of(
        path,
        {
            "interactions.csv": "\n".join(events) + "\n",
            "candidates.csv": "\n".join(lists) + "\n",
            "items.csv": "\n".join(items) + "\n",
            "liverank.toml": SHOP_CONFIG,
        },
    )


SHOP_CONFIG = """
[data]
user_id = "visitor"
item_id = "sku"
request_id = "search"
ts = { column = "seconds", time = "s" }

[data.interactions]
action = { column = "kind", map = { look = "view", order = "purchase" } }

[data.candidates]
items = { column = "skus", separator = "|" }
features.price = { column = "prices", separator = "|" }

[schema]
actions = [{ name = "view" }, { name = "click" }, { name = "purchase", positive = true }]
candidate_features = [{ name = "price", normalise = ["list-log"] }]

[recipe]
epochs = 2
batch = 16

[model]
d = 16
hidden = 16
"""
