"""`liverank bench words`: what it is worth that people type, on the films of MovieLens-1M.

Asked is where a film stands that a person watched next, among others that are as popular, before and after words that
somebody who wants it might type: one of its genres, another of its genres, a word of its title. No click lies between.
Words and their absence are compared on the same lists. The models: the starter, which has seen none of it and no word;
and, with `learn`, one that was trained on other people's clicks, and one that was trained on the same clicks with words
before some of them. No broker, no process, one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from threadpoolctl import threadpool_limits

from liverank.measure.machine import bare_machine
from online_learning.data.dataset import DataSet, LogRecord
from online_learning.data.log_fold import Fold
from online_learning.data.movielens import MOVIELENS_1M
from online_learning.evaluation.metrics import of_ranks, paired_bootstrap, pessimistic_rank, summarise
from online_learning.first_model.encoders import publish_encoder
from online_learning.first_model.fit import fit
from online_learning.first_model.item_texts import vector_record
from online_learning.recipe import Recipe
from ranker.contracts.errors import LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item
from ranker.items.catalog import Catalog, item_text
from ranker.registry.bundle import fetch_bundle
from ranker.registry.encoder import TextEncoder, load_encoder
from ranker.registry.settings import RegistrySettings
from ranker.registry.words import LogWords, WordsOf
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.starter.bundle import publish_starter
from ranker.state.fold import apply_input
from ranker.state.row import UserRow

_TURN_MS = 20_000  # between the list and the first words, and between two turns
_REMEMBERED = 40  # of a person's films, those that the history holds, and those that are learned from
_TYPED_BEFORE = 3  # one click of so many has words before it, in the log that is learned from
_TYPED = "typed"  # a topic of its own, so that its offsets are
_TITLE_WORD = 4  # letters, at least
_SHOWN_TITLES = 5


@dataclass(frozen=True)
class WordsOptions:
    """What the user chose."""

    data: Path
    users: int = 1000  # asked
    candidates: int = 100
    learn: int = 0  # people whose clicks are learned from; none of them is asked
    epochs: int = 2
    say: tuple[str, ...] = ()  # turns of somebody of whom nothing is known, over the films watched most
    seed: int = 1


class WantedFilm(NamedTuple):
    """A list, and what somebody types who wants one film of it."""

    user: str
    row: UserRow
    wanted: int  # its place
    genres: tuple[str, ...]
    title: str | None  # a word of it


class Films(NamedTuple):
    """The data set."""

    items: Mapping[str, Item]
    watched: Mapping[str, Sequence[Interaction]]  # by person, in order
    popularity: Counter[str]


def bench_words(options: WordsOptions, console: Console) -> dict[str, Any]:
    """Measure it.

    Raises:
        LiverankError: the path holds no such data, or too few people.
    """
    films = _films(options.data)
    if min(options.users, options.candidates - 1) < 1 or options.users + options.learn > len(films.watched):
        raise LiverankError(f"{len(films.watched)} people are there; ask and learn from fewer, of lists of 2 and more")
    random = Random(options.seed)
    people = random.sample(sorted(films.watched), options.users + options.learn)
    with threadpool_limits(1), TemporaryDirectory(prefix="liverank-words-") as temporary:
        registry = str(Path(temporary) / "registry")
        encoder = _encoder(registry, Path(temporary))
        catalog = _catalogue(films, encoder, console)
        words, folder = LogWords(encoder), Path(temporary) / "bundles"
        models = _models(films, people[options.users :], registry, options, console)
        asked = [_asked(films, user, words, options, random) for user in people[: options.users]]
        found, said = dict[str, Any](), list[dict[str, Any]]()
        for name, version in models.items():
            model = load_model(fetch_bundle(RegistrySettings(address=registry), version, folder), catalog, _OPTIONS)
            console.print(f"{name} ranks {len(asked)} lists", style="dim")
            found[name] = _judged(model, asked, words)
            if not said:
                said = _said(model, films, words, options)
    return {
        **bare_machine(),
        **{name: value for name, value in asdict(options).items() if name not in ("data", "say")},
        "models": found,
        **({"say": said} if said else {}),
    }


_OPTIONS = ServingOptions(provider="cpu")


def _films(path: Path) -> Films:
    items: dict[str, Item] = {}
    watched: dict[str, list[Interaction]] = {}
    popularity: Counter[str] = Counter()
    for record in MOVIELENS_1M.records(path):
        if isinstance(record, Item):
            items[record.item_id] = record
        elif isinstance(record, Interaction):
            watched.setdefault(record.user_id, []).append(record)
            popularity[record.item_id or ""] += 1
    return Films(items, watched, popularity)


def _encoder(registry: str, temporary: Path) -> TextEncoder:
    name = publish_encoder(registry=registry)
    return load_encoder(RegistrySettings(address=registry), name, temporary / "encoders")


def _catalogue(films: Films, encoder: TextEncoder, console: Console) -> Catalog:
    catalog, items = Catalog(), list(films.items.values())
    console.print(f"encoding {len(items)} films", style="dim")
    for item, vector in zip(items, encoder.encode([item_text(item) for item in items]), strict=True):
        catalog.put(item)
        catalog.put_vector(vector_record(item, vector, encoder.name))
    return catalog


def _models(
    films: Films, people: Sequence[str], registry: str, options: WordsOptions, console: Console
) -> dict[str, str]:
    """Versions by name."""
    models = {"starter": publish_starter(MOVIELENS_1M.schema, registry)}
    for name, typed in (("trained", False), ("trained with words", True)) if people else ():
        console.print(f"{name}: learning from {len(people)} people", style="dim")
        records = list(_log(films, people, Random(options.seed) if typed else None))
        data = DataSet(
            name="films",
            schema=MOVIELENS_1M.schema,
            records=partial(_again, records),
            source=MOVIELENS_1M.source,
        )
        recipe = replace(Recipe(), epochs=options.epochs)
        models[name] = fit(data, options.data, registry, recipe=recipe).version
    return models


def _again(records: Sequence[LogRecord], path: Path) -> Iterator[LogRecord]:
    """The records, as a data set reads them from a path: these are in memory."""
    return iter(records)


def _log(films: Films, people: Iterable[str], random: Random | None) -> Iterator[LogRecord]:
    """The films, and the newest that these people watched; with words before some, where there is a `random`."""
    yield from films.items.values()
    events: list[Interaction] = []
    for user in people:
        for event in films.watched[user][-_REMEMBERED:]:
            if random is not None and random.randrange(_TYPED_BEFORE) == 0:
                events.append(_typed(event, random.choice(_wishes(films, event, random)), -1))
            events.append(event)
    yield from sorted(events, key=lambda event: event.ts or 0)


def _wishes(films: Films, event: Interaction, random: Random) -> list[str]:
    """What somebody might type who wants a film."""
    item = films.items[event.item_id or ""]
    genres, title = list(item.tags or ()), _title_word(item, random)
    return [*genres, *([title] if title else [])] or [item.title or ""]


def _typed(event: Interaction, text: str, after_ms: int, turn: int = 0) -> Interaction:
    return Interaction(
        user_id=event.user_id,
        action="search",
        event_id=f"{event.event_id}-typed-{turn}",
        ts=(event.ts or 0) + after_ms,
        text=text,
    )


def _title_word(item: Item, random: Random) -> str | None:
    title = (item.title or "").rpartition(" (")[0] or item.title or ""
    words = [word.strip(",.:!?'\"()") for word in title.split()]
    long = [word for word in words if len(word) >= _TITLE_WORD]
    return random.choice(long) if long else None


def _asked(films: Films, user: str, words: WordsOf, options: WordsOptions, random: Random) -> WantedFilm:
    """The last film that a person watched, among others drawn by how often they are watched, in that order."""
    watched = films.watched[user]
    wanted, seen = watched[-1].item_id or "", {event.item_id for event in watched}
    names, weights = list(films.popularity), list(accumulate(films.popularity.values()))
    listed = {wanted}
    while len(listed) < options.candidates:
        (drawn,) = random.choices(names, cum_weights=weights)
        if drawn not in seen:
            listed.add(drawn)
    order = sorted(listed, key=lambda item: (-films.popularity[item], item))
    rows = Fold(MOVIELENS_1M.schema, words=words)
    for event in watched[-_REMEMBERED - 1 : -1]:
        rows.apply(event)
    row = rows.apply(_list(user, watched[-1].ts or 0, order)).after
    genres = list(films.items[wanted].tags or ())
    random.shuffle(genres)
    return WantedFilm(user, row, order.index(wanted), tuple(genres), _title_word(films.items[wanted], random))


def _list(user: str, ts: int, items: Sequence[str]) -> CandidateList:
    return CandidateList(request_id="r", user_id=user, ts=ts, items=[Candidate(item_id=item) for item in items])


#: What is typed, turn by turn; None where the film gives no such words.
_TURNS: dict[str, Callable[[WantedFilm], tuple[str, ...] | None]] = {
    "one genre": lambda one: one.genres[:1] or None,
    "a word of the title": lambda one: (one.title,) if one.title else None,
    "one genre, then another": lambda one: one.genres[:2] if len(one.genres) > 1 else None,
    "one genre, then a word of the title": lambda one: (one.genres[0], one.title) if one.genres and one.title else None,
}


def _judged(model: ServingModel, asked: Sequence[WantedFilm], words: WordsOf) -> dict[str, Any]:
    """The mean reciprocal rank after each turn, and each turn's difference from the one before, with intervals."""
    silent = [_rank(model, one, (), words) for one in asked]
    found: dict[str, Any] = {"no words": {"n": len(asked), "mrr": _mean(silent)}}
    for name, turns_of in _TURNS.items():
        turns = [turns_of(one) for one in asked]
        some = [at for at, said in enumerate(turns) if said]
        ranks = [[silent[at] for at in some]]
        for turn in range(1, 1 + max((len(turns[at] or ()) for at in some), default=0)):
            ranks.append([_rank(model, asked[at], (turns[at] or ())[:turn], words) for at in some])
        found[name] = {
            "n": len(some),
            "without": _mean(ranks[0]),
            "turns": [
                {"mrr": _mean(now), "minus_without": _minus(now, ranks[0]), "minus_turn_before": _minus(now, before)}
                for before, now in pairwise(ranks)
            ],
        }
    return found


def _rank(model: ServingModel, one: WantedFilm, turns: Sequence[str], words: WordsOf) -> int:
    row = _after(one.row, one.user, turns, words)
    ranked = model.rank([(one.user, row)])[0]
    model.forget(one.user)
    scores = np.empty(len(ranked.listed))
    scores[ranked.order] = ranked.scores
    return pessimistic_rank(scores, one.wanted)


def _after(row: UserRow, user: str, turns: Sequence[str], words: WordsOf) -> UserRow:
    """The row once these were typed."""
    listed = Interaction(user_id=user, event_id="r", ts=row.now)
    for turn, text in enumerate(turns, 1):
        said = _typed(listed, text, turn * _TURN_MS, turn)
        row = apply_input(row, said, Position(_TYPED, 0, turn, said.ts or 0), MOVIELENS_1M.schema, typed=words(said))
    return row


def _mean(ranks: Sequence[int]) -> dict[str, float]:
    return summarise(of_ranks(np.array(ranks, np.int64))["RR"])._asdict()


def _minus(ranks: Sequence[int], others: Sequence[int]) -> dict[str, float]:
    one, other = (of_ranks(np.array(each, np.int64))["RR"] for each in (ranks, others))
    return paired_bootstrap(one, other)._asdict()


def _said(model: ServingModel, films: Films, words: WordsOf, options: WordsOptions) -> list[dict[str, Any]]:
    """The first titles of a list of the films watched most, turn by turn."""
    if not options.say:
        return []
    most = [item for item, _ in films.popularity.most_common(options.candidates)]
    rows = Fold(MOVIELENS_1M.schema, words=words)
    row = rows.apply(_list("somebody", films.watched[min(films.watched)][0].ts or 0, most)).after
    found = list[dict[str, Any]]()
    for turns in range(len(options.say) + 1):
        said = _after(row, "somebody", options.say[:turns], words)
        first = model.rank([("somebody", said)])[0].item_ids[:_SHOWN_TITLES]
        model.forget("somebody")
        titles = [films.items[item].title or item for item in first]
        found.append({"typed": options.say[turns - 1] if turns else None, "first": titles})
    return found
