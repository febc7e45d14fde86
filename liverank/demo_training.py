"""The demo's first model: what MovieLens' people liked, as clicks on lists like those that the demo will show.

Two things are taken out of the log, for the demo's users know neither. People rated within minutes what the site's
pages listed, so the order of their ratings tells of those pages: each person's films are shuffled. And a popular film
is liked more often because it is seen more often: a list's other films are drawn in proportion to how often they were
liked, so that popularity tells nothing about which one was chosen. What remains to be learned is what goes with what.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from liverank.demo_users import LIST_LENGTH, Film, film_of
from online_learning.datasets import DataSet
from online_learning.datasets.dataset import Record
from online_learning.datasets.movielens import MOVIELENS_100K
from online_learning.fit import FirstModel, fit
from online_learning.fit import Progress as Done
from online_learning.recipe import Recipe
from ranker.records import Candidate, CandidateList, Interaction, Item
from ranker.schema import FeatureSchema

LIKES_A_PERSON = 24  # about as many clicks as a user of the demo makes in half a minute
RECIPE = Recipe(epochs=2, batch=128)
_STAGES = {"items": "encode titles", "events": "replay the log", "epochs": "train", "export": "export"}


def first_model(path: Path, registry: str, name: str, console: Console) -> FirstModel:
    """Train a model on MovieLens-100K in front of the user, and publish it.

    Args:
        path: the data set's file or folder.
        registry: where the bundle goes.
        name: the model's name in the registry.
        console: shows a progress bar where it is a terminal.
    """
    data = DataSet(
        name=MOVIELENS_100K.name,
        schema=FeatureSchema(),
        records=lambda file: clicked_lists(list(MOVIELENS_100K.records(file)), Random(0), _now_ms()),
        source=MOVIELENS_100K.source,
        lists=True,
        recipe=RECIPE,
    )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console) as bars:
        return fit(data, path, registry, model=name, report=_shown_on(bars))


def films_and_popularity(path: Path) -> tuple[list[Item], list[Film], Counter[str]]:
    """The catalogue: as records, as its viewers know it, and how often each film was rated."""
    records = list(MOVIELENS_100K.records(path))
    items = [record for record in records if isinstance(record, Item)]
    ratings = Counter(record.item_id for record in records if isinstance(record, Interaction))
    return items, [film_of(item) for item in items], ratings


def clicked_lists(records: Sequence[Record], random: Random, now_ms: int) -> Iterator[Record]:
    """The catalogue, then up to `LIKES_A_PERSON` likes of each person as clicks, each after a list that holds it.

    Args:
        records: MovieLens-100K.
        random: shuffles and draws.
        now_ms: the present, where the log is moved to: its own times are of the last century.
    """
    yield from (record for record in records if isinstance(record, Item))
    likes = [record for record in records if isinstance(record, Interaction) and record.action == "like"]
    drawn_from = [like.item_id for like in likes]
    popularity = Counter(drawn_from)
    shift = now_ms - max((like.ts or 0 for like in likes), default=0)
    of_person: dict[str, list[str]] = {}
    for like in likes:
        of_person.setdefault(like.user_id, []).append(like.item_id)
    liked = {person: frozenset(films) for person, films in of_person.items()}
    for films in of_person.values():
        random.shuffle(films)
        del films[LIKES_A_PERSON:]
    for like in likes:
        if not of_person[like.user_id]:
            continue
        film, ts = of_person[like.user_id].pop(), (like.ts or 0) + shift
        others = _others(drawn_from, liked[like.user_id], random)
        shown = sorted([film, *others], key=lambda item_id: (-popularity[item_id], item_id))
        items = [Candidate(item_id=item_id) for item_id in shown]
        request_id = f"list-{like.event_id}"
        yield CandidateList(request_id=request_id, user_id=like.user_id, items=items, ts=ts)
        yield msgspec.structs.replace(like, item_id=film, action="click", value=None, ts=ts, request_id=request_id)


def _others(drawn_from: Sequence[str], liked: frozenset[str], random: Random) -> list[str]:
    """Films the person did not like, popular ones more often; fewer where the data has hardly any."""
    drawn = (random.choice(drawn_from) for _ in range(4 * LIST_LENGTH))
    return list(dict.fromkeys(item_id for item_id in drawn if item_id not in liked))[: LIST_LENGTH - 1]


def _shown_on(bars: Progress) -> Callable[[Done], None]:
    tasks = {stage: bars.add_task(name, total=None, note="", start=False) for stage, name in _STAGES.items()}

    def report(done: Done) -> None:
        task = tasks[done.stage]
        bars.start_task(task)
        bars.update(task, completed=done.done, total=done.total or None, note=done.note)

    return report


def _now_ms() -> int:
    return time.time_ns() // 10**6
