"""The demo's first model: what MovieLens' people liked, as clicks on lists like those that the demo will show.

Two things are taken out of the log, for the demo's users know neither. People rated within minutes what the site's
pages listed, so the order of their ratings tells of those pages: each person's films are shuffled. And a popular film
is liked more often because it is seen more often: a list's other films are drawn in proportion to how often they were
liked, so that popularity tells nothing about which one was chosen. What remains to be learned is what goes with what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
from rich.console import Console

from liverank.simulate.tastes import left_out, likes_of
from liverank.simulate.users import LIST_LENGTH
from liverank.terminal import progress_bars
from online_learning.data.dataset import DataSet, LogRecord
from online_learning.data.movielens import MOVIELENS_100K
from online_learning.first_model.fit import FirstModel, fit
from online_learning.recipe import Recipe
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item
from ranker.contracts.schema import FeatureSchema

LIKES_A_PERSON = 24  # about as many clicks as a user of the demo makes in half a minute
# Every film that is ever listed is known here, so no id row is hidden.
RECIPE = Recipe(epochs=6, batch=128, learning_rate=1e-2, id_dropout=0.0)
#: What the phases of `fit` are called on the terminal.
_TITLES = {"items": "encode titles", "events": "replay the log", "epochs": "train", "export": "export"}


class Cinema(NamedTuple):
    """MovieLens-100K as the demo uses it."""

    records: list[LogRecord]
    items: list[Item]
    popularity: Counter[str]  # how often each film was rated
    left_out: list[str]  # people whom the model does not learn from

    @property
    def titles(self) -> dict[str, str]:
        """Film -> title."""
        return {item.item_id: item.title or item.item_id for item in self.items}


def read_cinema(path: Path) -> Cinema:
    """MovieLens-100K from its file or folder.

    Raises:
        LiverankError: the path holds no such thing, or nobody in it likes anything.
    """
    records = list(MOVIELENS_100K.records(path))
    items = [record for record in records if isinstance(record, Item)]
    ratings = Counter(record.item_id for record in records if isinstance(record, Interaction) and record.item_id)
    people = left_out(records)
    if not people:
        raise LiverankError(f"nobody in {path} likes a film; give MovieLens-100K with --data")
    return Cinema(records, items, ratings, people)


def first_model(cinema: Cinema, path: Path, registry: str, name: str, console: Console) -> FirstModel:
    """Train a model in front of the user, and publish it.

    Args:
        cinema: the data set.
        path: where it was read from, for messages.
        registry: where the bundle goes.
        name: the model's name in the registry.
        console: shows a progress bar where it is a terminal.
    """
    data = DataSet(
        name=MOVIELENS_100K.name,
        schema=FeatureSchema(),
        records=lambda _: clicked_lists(cinema.records, frozenset(cinema.left_out), Random(0), now_ms()),
        source=MOVIELENS_100K.source,
        lists=True,
        recipe=RECIPE,
    )
    with progress_bars(console, _TITLES) as show:
        return fit(data, path, registry, model=name, report=show)


def clicked_lists(
    records: Sequence[LogRecord], without: frozenset[str], random: Random, now_ms: int
) -> Iterator[LogRecord]:
    """The catalogue, then up to `LIKES_A_PERSON` likes of each person as clicks, each after a list that holds it.

    Args:
        records: MovieLens-100K.
        without: people to leave out.
        random: shuffles and draws.
        now_ms: the present, where the log is moved to: its own times are of the last century.
    """
    yield from (record for record in records if isinstance(record, Item))
    likes = [like for like in likes_of(records) if like.user_id not in without]
    drawn_from = [like.item_id or "" for like in likes]
    popularity = Counter(drawn_from)
    shift = now_ms - max((like.ts or 0 for like in likes), default=0)
    of_person: dict[str, list[str]] = {}
    for like in likes:
        of_person.setdefault(like.user_id, []).append(like.item_id or "")
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
