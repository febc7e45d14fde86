"""A folder as large as one likes, made up: lists by popularity, of which people click what is of a kind they like.

Seeded, so every run writes the same files. It is there to be large: what can be learned from it is little.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

LISTS_AT_ONCE = 20_000  # in memory, and in a file
_KINDS = ("chairs", "lamps", "tables", "rugs", "clocks", "vases", "shelves", "mirrors", "curtains", "baskets")
_LOOKS = ("red", "oak", "round", "large", "plain", "striped", "old", "folding", "light", "painted")
_START = 1_700_000_000_000
_SPAN_MS = 30 * 86_400_000  # of the whole log
_VIEWS = 2  # of a list, before the click
_CLICKED = 0.95  # share of lists that draw one
_EVENT_MS = 1000
_CONFIG = """\
[[schema.candidate_features]]
name = "price"
normalise = ["list-log", "list-rank"]

[[schema.context]]
name = "device"
values = ["desktop", "mobile"]
"""


class LogSizes(NamedTuple):
    """How large."""

    lists: int = 1_000_000
    length: int = 50  # items in a list
    items: int = 50_000
    users: int = 200_000


def write_large_log(folder: Path, sizes: LogSizes, seed: int = 0) -> None:
    """Write items, candidates and interactions as Parquet, with a liverank.toml, in a memory that does not grow with
    the number of lists.
    """
    rng = np.random.default_rng(seed)
    for kind in ("candidates", "interactions"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "liverank.toml").write_text(_CONFIG, encoding="utf-8")
    numbers = np.arange(sizes.items)
    titles = [
        f"{_LOOKS[number // len(_KINDS) % len(_LOOKS)]} {_KINDS[number % len(_KINDS)]} {number}" for number in numbers
    ]
    ids, kinds = pl.Series([f"item-{number}" for number in numbers]), pl.Series(_KINDS)
    prices = rng.lognormal(3, 1, sizes.items).round(2)
    items = {"item_id": ids, "title": titles, "category": kinds.gather(numbers % len(_KINDS))}
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    for at, start in enumerate(range(0, sizes.lists, LISTS_AT_ONCE)):
        some = np.arange(start, min(start + LISTS_AT_ONCE, sizes.lists))
        lists, events = _part(rng, sizes, some, ids, prices)
        lists.write_parquet(folder / "candidates" / f"{at:04}.parquet")
        events.write_parquet(folder / "interactions" / f"{at:04}.parquet")


def _part(
    rng: np.random.Generator, sizes: LogSizes, some: np.ndarray, ids: pl.Series, prices: np.ndarray
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The lists of these numbers, and what was done with them."""
    user, ts = rng.integers(0, sizes.users, len(some)), _START + some * _SPAN_MS // sizes.lists
    shown = _shown(rng, sizes, len(some))
    liked = user[:, None] * 7919 % len(_KINDS) == shown % len(_KINDS)
    worth = 2.0 * liked - np.arange(sizes.length) / sizes.length + rng.gumbel(size=shown.shape)
    done = shown[np.arange(len(some))[:, None], np.argsort(-worth, axis=1)[:, _VIEWS::-1]]  # the click comes last
    happened = np.ones(done.shape, bool)
    happened[:, -1] = rng.random(len(some)) < _CLICKED
    users, requests = pl.Series([f"user-{one}" for one in user]), pl.Series([f"list-{one}" for one in some])
    lists = {
        "user_id": users,
        "request_id": requests,
        "ts": ts,
        "items": ids.gather(shown.ravel()).reshape(shown.shape).arr.to_list(),
        "features.price": pl.Series(prices[shown]).arr.to_list(),
        "context.device": pl.Series(["desktop", "mobile"]).gather(user % 2),
    }
    line, step = np.nonzero(happened)
    events = {
        "user_id": users.gather(line),
        "request_id": requests.gather(line),
        "item_id": ids.gather(done[line, step]),
        "action": pl.Series(["view", "click"]).gather((step == _VIEWS).astype(np.int64)),
        "ts": ts[line] + _EVENT_MS * (1 + step),
    }
    return pl.DataFrame(lists), pl.DataFrame(events)


def _shown(rng: np.random.Generator, sizes: LogSizes, count: int) -> np.ndarray:
    """int64 [count, length]: items of each list, none twice, the lower numbers oftener and roughly first."""
    within = sizes.items // sizes.length  # each place of a list draws from items of its own
    drawn = (within * rng.random((count, sizes.length)) ** 3).astype(np.int64) * sizes.length + np.arange(sizes.length)
    key = drawn * rng.lognormal(size=drawn.shape)
    return np.take_along_axis(drawn, np.argsort(key, axis=1), axis=1)
