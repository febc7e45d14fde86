"""`liverank evaluate`: a model of the registry, or one trained for the occasion, on a log's lists or next items."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct

from liverank.offline.curve import learning_curve
from liverank.offline.rank import bundle_encoder, open_bundle
from liverank.settings import Settings, changed
from online_learning.data.dataset import DataSet
from online_learning.data.recall import CountRecall
from online_learning.evaluation.lists import MetricFigures, evaluate_lists, queries, summarise_ranks
from online_learning.evaluation.next_item import next_item, prequential_ranks
from online_learning.evaluation.peers import LIST_PEERS, MarkovChain, Synced
from online_learning.first_model.fit import fit
from online_learning.first_model.item_texts import described_log
from online_learning.online_recipe import OnlineRecipe
from online_learning.progress import ProgressReport, Report
from online_learning.releases.origins import emptied, read_origin
from online_learning.simulation.lists import ListSimulation, simulate_lists
from online_learning.simulation.next_items import Simulation, simulate
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Interaction, Item, User
from ranker.items.catalog import Catalog
from ranker.registry.bundle import Manifest, read_manifest
from ranker.serving.model import load_model
from ranker.starter.bundle import publish_starter

MODES = ("frozen", "online")
EMPTY_ORIGIN = "empty"  # the shown order, until something is learned
ORIGINS = ("starter", EMPTY_ORIGIN)
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


def run_evaluation(data: DataSet, path: Path, settings: Settings, question: Question, report: Report) -> dict[str, Any]:
    """Metrics of liverank and of its peers, as plain JSON values.

    Raises:
        LiverankError: the question does not fit the data set.
    """
    if question.mode not in MODES:
        raise LiverankError(f"the mode is {question.mode!r}; valid are {', '.join(MODES)}")
    if question.mode == "online" and not (data.recalled or data.lists):
        raise LiverankError(f"{data.name} is evaluated frozen; mode online is for next items or lists that were logged")
    if not data.lists and not data.recalled:
        raise LiverankError(f"{data.name} has no lists to rank; set recall = 100 in [data] to have them recalled")
    question = untold_future(question)
    with TemporaryDirectory(prefix="liverank-evaluate-") as temporary:
        settings = changed(settings, data=Path(temporary) / "data")
        if question.origin in ORIGINS:
            settings = changed(settings, registry=f"{temporary}/registry", require_signatures=False)
            publish_starter(data.schema, settings.registry.address, settings.registry.model)
        elif question.train_until is not None:
            settings = changed(settings, registry=f"{temporary}/registry", require_signatures=False)
            fit(
                data,
                path,
                settings.registry.address,
                model=settings.registry.model,
                until=question.train_until,
                report=report,
            )
        folder = open_bundle(settings, None if question.origin in ORIGINS else question.origin)
        ask = next_items if data.recalled else lists
        if not data.recalled and (question.mode == "online" or question.origin == EMPTY_ORIGIN):
            ask = lists_online
        found = ask(data, path, settings, folder, question, report)
        if not found["n"]:
            raise LiverankError(
                f"{data.name}: nothing positive was chosen from a list in that time; look at --test-from and --test-to"
            )
        manifest = read_manifest(folder)
        return {"model_version": manifest.version, **found, "notes": _known_before(manifest, question)}


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


def _shown_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes")


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
    data: DataSet, path: Path, settings: Settings, folder: Path, question: Question, report: Report
) -> dict[str, Any]:
    """A log's own lists, next to the shown order and recently touched first."""
    catalog = Catalog(read_manifest(folder).schema.item_numeric)
    model = load_model(folder, catalog, settings.worker.serving)
    described = described_log(data.records(path), catalog, bundle_encoder(folder, settings), report)
    asked = queries(described, model.schema, question.start, question.end)
    n, rankers = evaluate_lists(asked, model, LIST_PEERS, lambda done: report(ProgressReport("lists", done, 0)))
    return {"n": n, "rankers": rankers}


def lists_online(
    data: DataSet, path: Path, settings: Settings, folder: Path, question: Question, report: Report
) -> dict[str, Any]:
    """A log's own lists, learned from as they come, with the curve by thousand events."""
    del settings
    torch.set_num_threads(1)
    sync = question.sync_ms if question.mode == "online" else None
    online = OnlineRecipe(
        delta_ms=question.sync_ms,
        bundle_ms=max(_BUNDLE_MS, question.sync_ms),
        id_dropout=data.recipe.id_dropout,
    )
    origin = read_origin(folder)
    if question.origin == EMPTY_ORIGIN:
        origin = emptied(origin)
    simulation = ListSimulation(origin, data.recipe, online, sync)
    ranked = simulate_lists(data.records(path), simulation, question.start, question.end)
    figures = learning_curve(ranked, lambda done: report(ProgressReport("lists", done, 0)))
    bundles = {"served": simulation.bundles, "rejected": simulation.rejected}
    return {**figures, "mode": question.mode, "from": question.origin, "sync_ms": sync, "bundles": bundles}


def next_items(
    data: DataSet, path: Path, settings: Settings, folder: Path, question: Question, report: Report
) -> dict[str, Any]:
    """The next item among all seen so far, next to a first-order Markov chain that is synced as often.

    `by_target` has the same figures of items that the user had touched before in the session (`own`), which the user's
    own history names whatever has been learned meanwhile, and of all `other` ones; `by_day` has them by day, in UTC.
    """
    del settings
    torch.set_num_threads(1)
    start = question.start if question.start is not None else question.train_until or 0
    sync = question.sync_ms if question.mode == "online" else None
    online = OnlineRecipe(
        delta_ms=question.sync_ms,
        bundle_ms=max(_BUNDLE_MS, question.sync_ms),
        id_dropout=data.recipe.id_dropout,  # what does not help the first model does not help later
    )
    simulation = Simulation(read_origin(folder), data.recipe, online, CountRecall(data.recalled), sync)
    events = (record for record in data.records(path) if isinstance(record, Interaction))
    ranks = simulate(events, simulation, start, question.end, lambda done: report(ProgressReport("events", done, 0)))
    markov = {"markov": Synced(MarkovChain(), start, sync)}
    log = next_item(data.records(path), start, question.end)
    asked = [(query.item in query.session, query.ts) for query in log if query.asked]
    found = {"liverank": ranks, **prequential_ranks(next_item(data.records(path), start, question.end), markov)}
    own = np.array([returned for returned, _ in asked], bool)
    days = np.array([datetime.fromtimestamp(ts / 1000, UTC).date().isoformat() for _, ts in asked])
    return {
        "n": len(ranks),
        "mode": question.mode,
        "sync_ms": sync,
        "bundles": {"served": simulation.bundles, "rejected": simulation.rejected},
        "rankers": _figures(found, np.ones(len(ranks), bool)),
        "by_target": {"own": _part(found, own), "other": _part(found, ~own)},
        "by_day": {day: _part(found, days == day) for day in np.unique(days).tolist()},
    }


def _part(found: dict[str, np.ndarray], some: np.ndarray) -> dict[str, Any]:
    return {"n": int(some.sum()), "rankers": _figures(found, some)}


def _figures(found: dict[str, np.ndarray], some: np.ndarray) -> dict[str, MetricFigures]:
    return {name: summarise_ranks(np.asarray(ranks)[some]) for name, ranks in found.items()}
