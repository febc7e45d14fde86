"""`liverank bench scorer`: what the graphs take, of users extended by one event and of users encoded anew.

No broker and no process: rows are folded, and the scorer of one model is asked for them in batches. Microseconds of the
clock for each user, medians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import msgspec
from rich.console import Console

from liverank.bench.models import VersionMaker, bench_people, item_vectors, past_views
from liverank.measure.machine import bare_machine
from liverank.settings import Settings, changed
from liverank.simulate.users import RECALLED_FROM
from liverank.terminal import progress_bars
from online_learning.progress import ProgressReport
from ranker.contracts.errors import LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import CANDIDATES, VIEWS
from ranker.features.user import UserInputs
from ranker.items.catalog import Catalog
from ranker.registry.settings import Provider
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import ServingOptions
from ranker.serving.scorer import providers
from ranker.state.fold import RowRules, apply_input
from ranker.state.row import EMPTY, EVENT

_NOW = 1_800_000_000_000
_TIMES = 15  # each is measured, after as many that are not

_Users = Sequence[tuple[str, UserInputs]]


@dataclass(frozen=True)
class ScorerOptions:
    """What the user chose: every combination of the numbers is measured."""

    history: tuple[int, ...] = (50, 200, 1000)  # events
    candidates: tuple[int, ...] = (10, 100, 500)
    batch: tuple[int, ...] = (1, 8, 64)  # users
    items: int = 10_000
    provider: Provider = "auto"


def bench_scorer(options: ScorerOptions, console: Console) -> dict[str, Any]:
    """Measure it.

    Raises:
        LiverankError: the sizes do not fit together.
    """
    if not (options.history and options.candidates and options.batch):
        raise LiverankError("give at least one number each of history, candidates and batch")
    if min(options.history) < 2 or max(options.candidates) > min(options.items, RECALLED_FROM):
        raise LiverankError(f"history must be at least 2, candidates at most items, and at most {RECALLED_FROM}")
    found: list[dict[str, Any]] = []
    every = len(options.history) * len(options.candidates) * len(options.batch)
    with TemporaryDirectory(prefix="liverank-scorer-") as folder, progress_bars(console) as show:
        for history in options.history:
            model, names = _model(Path(folder) / str(history), history, options)
            for candidates, batch in product(options.candidates, options.batch):
                show(ProgressReport("sizes", len(found), every))
                users = [_inputs(model, names, number, candidates, history) for number in range(batch)]
                found.append({"history": history, "candidates": candidates, "batch": batch, **_measured(model, users)})
    return {
        "scorer": found,
        "provider": providers(options.provider)[0],
        "machine": bare_machine(),
        "options": asdict(options),
    }


def _model(folder: Path, window: int, options: ScorerOptions) -> tuple[ServingModel, list[str]]:
    """A model that looks at so many events, and the names of its items."""
    settings = changed(Settings(), registry=str(folder / "registry"))
    names = [f"item-{number:08}" for number in range(options.items)]
    maker = VersionMaker(settings, names, folder, FeatureSchema(window=window))
    version, catalog = maker.publish().version, Catalog()
    for vector in item_vectors(names):
        catalog.put_vector(vector)
    serving = ServingOptions(provider=options.provider)
    return load_model(folder / "registry" / settings.registry.model / version, catalog, serving), names


def _inputs(
    model: ServingModel, names: list[str], number: int, candidates: int, history: int
) -> tuple[str, UserInputs]:
    """A user with so many events and a list: what the graphs read."""
    (person,) = bench_people(f"scorer-{number}", names, 1, candidates)
    rules, row = RowRules(), EMPTY
    records = [*past_views(person.user_id, history, names, _NOW), person.next_record(_NOW)]
    for offset, record in enumerate(records):
        topic = CANDIDATES if offset == history else VIEWS
        row = apply_input(row, record, Position(topic, 0, offset, _NOW), model.schema, rules)
    inputs: tuple[str, UserInputs] = model.inputs([(person.user_id, row)])[0]
    return inputs


def _measured(model: ServingModel, users: _Users) -> dict[str, float]:
    scorer, earlier = model.scorer, [(user, _without_newest(inputs)) for user, inputs in users]

    def forget() -> None:
        for user, _ in users:
            scorer.forget(user)

    def before() -> None:
        forget()
        scorer.encode(earlier)

    anew = _median_us(forget, lambda: scorer.encode(users), len(users))
    extended = _median_us(before, lambda: scorer.encode(users), len(users))
    return {
        "encode_anew_us": anew,
        "encode_extended_us": extended,
        "encode_ratio": round(anew / extended, 2),
        "whole_anew_us": (whole := _median_us(forget, lambda: scorer.score(users), len(users))),
        "whole_extended_us": (short := _median_us(before, lambda: scorer.score(users), len(users))),
        "whole_ratio": round(whole / short, 2),
    }


def _without_newest(inputs: UserInputs) -> UserInputs:
    """The same user before the newest event, as far as the encoder reads of it."""
    shorter = {name: getattr(inputs, name)[:-1] for name in ("history", "action", "gap", "value")}
    return msgspec.structs.replace(inputs, events=inputs.events[: -EVENT.itemsize], **shorter)


def _median_us(prepare: Callable[[], None], work: Callable[[], object], users: int) -> float:
    taken = []
    for number in range(2 * _TIMES):
        prepare()
        began = perf_counter()
        work()
        if number >= _TIMES:
            taken.append(perf_counter() - began)
    return round(1e6 * median(taken) / users, 1)
