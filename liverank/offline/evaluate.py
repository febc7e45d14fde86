"""`liverank evaluate`: a model of the registry, or one trained for the occasion, on a log's lists or next items."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct

from liverank.offline.curve import curve_points, judged_report, last_quarter
from liverank.offline.own_peer import own_peer
from liverank.offline.rank import bundle_encoder, open_bundle
from liverank.settings import Settings, changed
from online_learning.data.dataset import DataSet, LogRecord
from online_learning.data.recall import CountRecall
from online_learning.evaluation.list_peers import AmongAllItems, ListRanker, list_peers
from online_learning.evaluation.lists import (
    Judged,
    MetricFigures,
    RankedQuery,
    compared,
    judge,
    queries,
    served,
    summarise_ranks,
)
from online_learning.evaluation.next_item import NextItemRanker, next_item, prequential_ranks
from online_learning.evaluation.peers import MarkovChain, Popularity, SessionNeighbours, Synced
from online_learning.first_model.encoders import publish_encoder
from online_learning.first_model.fit import fit
from online_learning.first_model.item_texts import described_log
from online_learning.online_recipe import OnlineRecipe
from online_learning.progress import ProgressReport, Report
from online_learning.releases.origins import emptied, read_origin
from online_learning.releases.versions import Origin
from online_learning.simulation.lists import ListSimulation, simulate_lists
from online_learning.simulation.next_items import Simulation, simulate
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import Interaction, Item, User
from ranker.contracts.schema import differences
from ranker.items.catalog import Catalog
from ranker.registry.bundle import Manifest, read_manifest
from ranker.registry.encoder import TextEncoder
from ranker.registry.words import words_of
from ranker.serving.model import load_model
from ranker.starter.bundle import is_starter, publish_starter

MODES = ("frozen", "online")
EMPTY_ORIGIN = "empty"  # the shown order, until something is learned
ORIGINS = ("starter", EMPTY_ORIGIN)
_FEW_USERS = 20  # whom a bootstrap draws from, below which it says too little
#: Between two bundles of a simulated trainer, in the log's time.
_BUNDLE_MS = 300_000


class Question(Struct, frozen=True, kw_only=True):
    """What is to be evaluated. Times are milliseconds; None: no limit."""

    train_until: int | None = None  # train on what is before; None: ask a version
    start: int | None = None
    end: int | None = None
    mode: str = "frozen"
    sync_ms: int = 10_000  # in mode online: between two syncs of what was learned
    origin: str | None = None  # starter, empty, or a version of the registry; None: as `train_until` says
    peers: tuple[str, ...] = ()  # a person's own, each as MODULE:CLASS
    offline: bool = False  # train on all but the last quarter of the choices as well, and rank that quarter by it


def run_evaluation(data: DataSet, path: Path, settings: Settings, question: Question, report: Report) -> dict[str, Any]:
    """Metrics of liverank and of its peers, as plain JSON values.

    Raises:
        LiverankError: the question does not fit the data set.
    """
    _refuse_unfit(data, question)
    question = untold_future(question)
    peers = {name: own_peer(name) for name in question.peers}
    with TemporaryDirectory(prefix="liverank-evaluate-") as temporary:
        settings = changed(settings, data=Path(temporary) / "data")
        if question.origin in ORIGINS:
            settings = changed(settings, registry=f"{temporary}/registry", require_signatures=False)
            publish_starter(data.schema, settings.registry.address, settings.registry.model)
        elif question.train_until is not None:
            settings = _trained(data, path, settings, f"{temporary}/registry", question.train_until, report)
        folder = open_bundle(settings, None if question.origin in ORIGINS else question.origin)
        ask = next_items if data.recalled else lists
        manifest = read_manifest(folder)
        try:
            found = ask(data, path, settings, folder, question, peers, report)
        except InvalidRecord as error:
            raise LiverankError(
                f"{manifest.version} is of another [schema] than {data.name}: {error}; ask a version that was "
                "trained by this [schema], or have one trained for the occasion, without --registry and --version"
            ) from error
        notes = (*_known_before(manifest, question), *_of_schema(data, manifest), *_of_few(found["users"]))
        return {"model_version": manifest.version, **found, "notes": notes}


def untold_future(question: Question) -> Question:
    """The question, whose test begins where training ends, unless it says when.

    Raises:
        LiverankError: it asks for what was trained on, or for two models.
    """
    if question.train_until is None:
        return question
    if question.origin is not None:
        raise LiverankError(f"--train-until trains a model and {question.origin!r} names one; give one of the two")
    start = question.train_until if question.start is None else question.start
    if start < question.train_until:
        raise LiverankError(
            f"the test begins at {_shown_time(start)}, before the training ends at "
            f"{_shown_time(question.train_until)}; give a --test-from that is no earlier than --train-until"
        )
    return msgspec.structs.replace(question, start=start)


def _known_before(manifest: Manifest, question: Question) -> tuple[str, ...]:
    """What a report must say of a version that has seen some of what it is asked."""
    if question.train_until is not None or manifest.learned_until <= (question.start or 0):
        return ()
    learned = _shown_time(manifest.learned_until)
    return (f"{manifest.version} has learned from what happened until {learned}, so it has seen some of the test",)


def _of_schema(data: DataSet, manifest: Manifest) -> tuple[str, ...]:
    """What a report must say of a version that means something else by what it is asked."""
    found = differences(data.schema, manifest.schema)
    if not found:
        return ()
    return (f"the [schema] of {manifest.version} counts, and that of {data.name} is another: {'; '.join(found)}",)


def _of_few(users: int) -> tuple[str, ...]:
    """What a report must say of a test whose choices are of few people."""
    if users >= _FEW_USERS:
        return ()
    if users == 1:
        return ("all choices of the test are of one user: there are no intervals, and nothing is said of others",)
    return (f"the choices of the test are of {users} users: intervals over so few are narrower than the truth",)


def _shown_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes")


def _refuse_unfit(data: DataSet, question: Question) -> None:
    if question.mode not in MODES:
        raise LiverankError(f"the mode is {question.mode!r}; valid are {', '.join(MODES)}")
    if question.mode == "online" and not (data.recalled or data.lists):
        raise LiverankError(f"{data.name} is evaluated frozen; mode online is for next items or lists that were logged")
    if not data.lists and not data.recalled:
        raise LiverankError(f"{data.name} has no lists to rank; set recall = 100 in [data] to have them recalled")
    if question.offline and data.recalled:
        raise LiverankError(f"{data.name} has no lists of its own; --offline is for lists that were logged")


def _trained(
    data: DataSet, path: Path, settings: Settings, registry: str, until: int | None, report: Report
) -> Settings:
    """The settings with a registry that holds a model trained on what was before."""
    settings = changed(settings, registry=registry, require_signatures=False)
    fit(data, path, registry, model=settings.registry.model, until=until, report=report)
    return settings


def _refuse_nothing(data: DataSet, queries: int) -> None:
    if not queries:
        raise LiverankError(
            f"{data.name}: nothing positive was chosen from a list in that time; look at --test-from and --test-to"
        )


def newest_fifth(data: DataSet, path: Path, question: Question, *, train: bool) -> Question:
    """The question, where it does not say, about the newest fifth of what was chosen, trained on what came before.

    Args:
        data: the log.
        path: where it lies.
        question: what is known of it.
        train: whether to train for the occasion; else the registry's model is asked.

    Raises:
        LiverankError: nothing was chosen, or all at one time.
    """
    positives = {action.name for action in data.schema.positives}
    before = question.end if question.end is not None else 1 << 62
    chosen, count = [], 0
    for record in data.records(path):
        count += not isinstance(record, Item | User)
        if isinstance(record, Interaction) and record.action in positives and (record.ts or 0) < before:
            chosen.append(record.ts or 0)
    times = np.array(chosen)
    if not len(times):
        raise LiverankError(f"{data.name} holds no positive action ({', '.join(positives)}); nothing can be learned")
    start = int(np.sort(times)[len(times) * 4 // 5])
    if start <= times.min() or times.max() - times.min() <= count:  # what was at one time stands a millisecond apart
        raise LiverankError(f"{data.name}: all was chosen at one time; give times, so that what is later can be tested")
    until = start if train and question.train_until is None else question.train_until
    return msgspec.structs.replace(question, start=start, train_until=until)


def lists(
    data: DataSet,
    path: Path,
    settings: Settings,
    folder: Path,
    question: Question,
    peers: dict[str, ListRanker],
    report: Report,
) -> dict[str, Any]:
    """A log's own lists, by a model that serves or that learns as they come, next to simple rankers."""
    beside = {**list_peers(read_manifest(folder).schema), **peers}

    def told(done: int) -> None:
        report(ProgressReport("lists", done, 0))

    about: dict[str, Any] = {}
    if question.mode == "online" or question.origin == EMPTY_ORIGIN:
        torch.set_num_threads(1)
        sync = question.sync_ms if question.mode == "online" else None
        simulation = ListSimulation(_origin(folder, question), data.recipe, _online(data, question), sync)
        records, encoder = _described(data, path, simulation.trainer.catalog, folder, settings, report)
        simulation.rows.words = words_of(encoder)
        judged = judge(simulate_lists(records, simulation, question.start, question.end), beside, told)
        bundles = {"served": simulation.bundles, "rejected": simulation.rejected}
        about = {"sync_ms": sync, "bundles": bundles}
    else:
        judged = judge(_served(data, path, settings, folder, question.start, question.end, report), beside, told)
    _refuse_nothing(data, len(judged.times))
    offline = _offline(data, path, settings, question, judged, report) if question.offline else None
    return {**judged_report(judged, offline), "mode": question.mode, "from": question.origin, **about}


def _served(
    data: DataSet, path: Path, settings: Settings, folder: Path, start: int | None, end: int | None, report: Report
) -> Iterator[tuple[LogRecord, RankedQuery | None]]:
    """A log's lists as a worker would rank them by this bundle."""
    catalog = Catalog(read_manifest(folder).schema.item_numeric)
    model = load_model(folder, catalog, settings.worker.serving)
    records, encoder = _described(data, path, catalog, folder, settings, report)
    return served(queries(records, model.schema, start, end, words_of(encoder)), model)


def _offline(
    data: DataSet, path: Path, settings: Settings, question: Question, judged: Judged, report: Report
) -> np.ndarray:
    """int [queries of the last quarter]: ranks by a model that was trained on everything before, and learns no more."""
    start = int(judged.times[last_quarter(judged.times)].min())
    with TemporaryDirectory(prefix="liverank-offline-") as registry:
        settings = _trained(data, path, settings, registry, start, report)
        ranked = _served(data, path, settings, open_bundle(settings), start, question.end, report)
        return judge(ranked, {}, lambda done: report(ProgressReport("offline", done, 0))).ranks["liverank"]


def _described(
    data: DataSet, path: Path, catalog: Catalog, folder: Path, settings: Settings, report: Report
) -> tuple[Iterator[LogRecord], TextEncoder | None]:
    """The log, and the encoder of its texts, where it has items.

    They stand first in it, and go into the catalogue with their texts as the bundle reads them.
    """
    records = iter(data.records(path))
    first = next(records, None)
    if first is None:
        return iter(()), None
    encoder = None
    if isinstance(first, Item):
        if is_starter(read_manifest(folder).version):  # nobody has put its encoder into a registry yet
            settings = changed(settings, registry=settings.worker.data / "starter", require_signatures=False)
            publish_encoder(registry=settings.registry.address)
        encoder = bundle_encoder(folder, settings)
    return described_log(chain((first,), records), catalog, encoder, report), encoder


def _origin(folder: Path, question: Question) -> Origin:
    origin = read_origin(folder)
    return emptied(origin) if question.origin == EMPTY_ORIGIN else origin


def _online(data: DataSet, question: Question) -> OnlineRecipe:
    """As the trainer learns by default."""
    return OnlineRecipe(
        delta_ms=question.sync_ms,
        bundle_ms=max(_BUNDLE_MS, question.sync_ms),
        id_dropout=data.recipe.id_dropout,  # what does not help the first model does not help later
    )


def next_items(
    data: DataSet,
    path: Path,
    settings: Settings,
    folder: Path,
    question: Question,
    peers: dict[str, ListRanker],
    report: Report,
) -> dict[str, Any]:
    """The next item among all seen so far, next to simple rankers that are synced as often.

    `by_target` has the same figures of items that the user had touched before in the session (`own`), which the user's
    own history names whatever has been learned meanwhile, and of all `other` ones; `by_day` has them by day, in UTC.
    """
    torch.set_num_threads(1)
    start = question.start if question.start is not None else question.train_until or 0
    sync = question.sync_ms if question.mode == "online" else None
    recall = CountRecall(data.recalled)
    simulation = Simulation(_origin(folder, question), data.recipe, _online(data, question), recall, sync)
    records, encoder = _described(data, path, simulation.trainer.catalog, folder, settings, report)
    simulation.rows.words = words_of(encoder)
    ranks = simulate(records, simulation, start, question.end, lambda done: report(ProgressReport("events", done, 0)))
    _refuse_nothing(data, len(ranks))
    beside: dict[str, NextItemRanker] = {
        "popularity": Popularity(), "markov": MarkovChain(), "neighbours": SessionNeighbours(),
        **{name: AmongAllItems(peer) for name, peer in peers.items()},
    }  # fmt: skip
    late = {name: Synced(ranker, start, sync) for name, ranker in beside.items()}
    found = {"liverank": ranks, **prequential_ranks(next_item(data.records(path), start, question.end), late)}
    asked = [
        (item.event.user_id, item.item in item.session, item.ts, events)
        for events, item in enumerate(next_item(data.records(path), start, question.end), start=1)
        if item.asked
    ]
    users = np.array([user for user, *_ in asked])
    own = np.array([returned for _, returned, *_ in asked], bool)
    days = np.array([datetime.fromtimestamp(ts / 1000, UTC).date().isoformat() for _, _, ts, _ in asked])
    return {
        "n": len(ranks),
        "users": len(np.unique(users)),
        "mode": question.mode,
        "from": question.origin,
        "sync_ms": sync,
        "bundles": {"served": simulation.bundles, "rejected": simulation.rejected},
        "rankers": _figures(found, np.ones(len(ranks), bool), users),
        "differences": compared(found, users),
        "by_target": {"own": _part(found, own, users), "other": _part(found, ~own, users)},
        "by_day": {day: _part(found, days == day, users) for day in np.unique(days).tolist()},
        "curve": curve_points(np.array([events for *_, events in asked]), found),
    }


def _part(found: dict[str, np.ndarray], some: np.ndarray, users: np.ndarray) -> dict[str, Any]:
    return {"n": int(some.sum()), "rankers": _figures(found, some, users)}


def _figures(found: dict[str, np.ndarray], some: np.ndarray, users: np.ndarray) -> dict[str, MetricFigures]:
    return {name: summarise_ranks(np.asarray(ranks)[some], users[some]) for name, ranks in found.items()}
