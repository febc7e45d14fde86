"""A log in Trivago's form, made up: people touch a hotel of the list to come, then mostly click it or the one below."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl

START = 1_541_548_800  # 7 Nov 2018 00:00 UTC, in seconds
_COLUMNS = ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "platform", "device")


def write_log(path: Path, users: int = 60, lists_each: int = 4, seed: int = 0) -> Path:
    """Write `users` x `lists_each` clickouts, spread over a day, as Parquet."""
    rng = random.Random(seed)
    lines = []
    for user in range(users):
        clock, step = START + rng.randrange(60_000), 0
        for _ in range(lists_each):
            shown = rng.sample(range(1, 400), 12)
            place = rng.randrange(len(shown) - 1)
            for _ in range(rng.randrange(1, 3)):
                step, clock = step + 1, clock + rng.randrange(1, 40)
                lines.append(_line(user, clock, step, "interaction item image", shown[place]))
            step, clock = step + 1, clock + rng.randrange(1, 40)
            target = shown[place if rng.random() < 0.7 else place + 1]
            lines.append(_line(user, clock, step, "clickout item", target, shown, rng))
            clock += rng.randrange(100, 4000)
    pl.DataFrame(lines).sort("timestamp", maintain_order=True).write_parquet(path)
    return path


def _line(
    user: int, clock: int, step: int, action: str, item: int, shown: list[int] | None = None,
    rng: random.Random | None = None,
) -> dict[str, object]:  # fmt: skip
    values = (f"u{user}", f"s{user}", clock, step, action, str(item), "DE", "mobile")
    return {
        **dict(zip(_COLUMNS, values, strict=True)),
        "current_filters": None,
        "impressions": "|".join(map(str, shown)) if shown else None,
        "prices": "|".join(str(rng.randrange(30, 300)) for _ in shown) if shown and rng else None,
    }
