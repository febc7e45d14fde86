"""`liverank bench sizes`: the bytes that a user and an item take in a worker's memory and on its disk.

Everything is made as a worker makes it, some hundred times, and what Python and numpy have allocated for it is counted
(`tracemalloc`): rows are decoded, lists ranked, encodings kept. No broker and no process; seconds.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec
from rich.console import Console

from liverank.bench.models import VersionMaker, item_vectors
from liverank.measure.machine import bare_machine
from liverank.settings import Settings, changed
from ranker.contracts.errors import LiverankError
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Interaction, ItemVector
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import CANDIDATES, VIEWS
from ranker.items.catalog import Catalog
from ranker.serving.model import ServingModel, load_model
from ranker.serving.options import Budget, ServingOptions
from ranker.serving.scorer import Encoding
from ranker.state.codec import decode_row, encode_head, encode_list, encode_row
from ranker.state.fold import RowRules, apply_input
from ranker.state.row import EMPTY, UserRow
from streams.pipeline.examples import LastRanking

_NOW = 1_800_000_000_000
_ROWS_RANKED = 200

Made = TypeVar("Made")


@dataclass(frozen=True)
class SizesOptions:
    """What the user chose."""

    items: int = 10_000
    candidates: int = 100
    lists: int = 3  # of each user
    history: int = 64  # events


def bench_sizes(options: SizesOptions, console: Console) -> dict[str, Any]:
    """Measure it.

    Raises:
        LiverankError: the sizes do not fit together.
    """
    if min(options.lists, options.history) < 1 or not 1 <= options.candidates <= options.items:
        raise LiverankError("lists and history must be at least 1, candidates 1 to items")
    with TemporaryDirectory(prefix="liverank-sizes-") as temporary, console.status("a model and its users"):
        folder = Path(temporary)
        settings = changed(Settings(), registry=str(folder / "registry"))
        names = [f"item-{number:08}" for number in range(options.items)]
        version = VersionMaker(settings, names, folder).publish().version
        bundle = folder / "registry" / settings.registry.model / version
        tracemalloc.start()
        try:
            catalog, of_catalog = _taken(lambda: _catalog(names))
            model, of_version = _taken(lambda: load_model(bundle, catalog, ServingOptions(budget=Budget(4096))))
            return {
                "user_bytes": _of_user(model, names, options),
                "item_bytes": {
                    "catalogue": round(of_catalog / options.items),
                    "each_version": round(of_version / options.items),
                },
                "machine": bare_machine(),
                "options": asdict(options),
            }
        finally:
            tracemalloc.stop()


def _taken(make: Callable[[], Made]) -> tuple[Made, int]:
    """What is made, and the bytes that it holds."""
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    return made, tracemalloc.get_traced_memory()[0] - before


def _catalog(names: list[str]) -> Catalog:
    catalog = Catalog()
    for vector in item_vectors(names):
        decoded = msgspec.json.decode(msgspec.json.encode(vector), type=ItemVector)  # with its own id
        catalog.put_vector(decoded)
    return catalog


def _row(names: list[str], options: SizesOptions, number: int) -> UserRow:
    """A user's row, folded."""
    schema, rules, row = FeatureSchema(), RowRules(lists=options.lists), EMPTY
    records: list[UserInput] = [
        Interaction(
            user_id="u", item_id=names[(number + at) % len(names)], action="view", event_id=f"{number}-{at}",
            ts=_NOW + at,
        )
        for at in range(options.history)
    ]  # fmt: skip
    for at in range(options.lists):
        shown = [
            Candidate(item_id=names[(number * 7 + at + place) % len(names)]) for place in range(options.candidates)
        ]
        records.append(CandidateList(user_id="u", request_id=f"{number}-{at}", items=shown, ts=_NOW + 1000 + at))
    for offset, record in enumerate(records):
        topic = CANDIDATES if isinstance(record, CandidateList) else VIEWS
        row = apply_input(row, record, Position(topic, 0, offset, _NOW), schema, rules)
    return row


def _of_user(model: ServingModel, names: list[str], options: SizesOptions) -> dict[str, int]:
    stored = [encode_row(_row(names, options, number)) for number in range(_ROWS_RANKED)]
    rows, of_rows = _taken(lambda: [decode_row(one) for one in stored])
    users = [f"user-{number}" for number in range(len(rows))]

    def encode(lists: slice) -> None:
        for user, row in zip(users, rows, strict=True):
            model.encode([(user, row.of(listed)) for listed in row.lists[lists]])

    def rank() -> list[list[LastRanking]]:
        return [
            [_ranking(model, user, row.of(listed)) for listed in row.lists]
            for user, row in zip(users, rows, strict=True)
        ]

    rank()  # what is made once for all users is there by now
    for user in users:
        model.forget(user)
    _, of_encodings = _taken(lambda: encode(slice(1)))
    _, of_lists = _taken(lambda: encode(slice(1, None)))
    _, of_rankings = _taken(rank)
    scorer, row, count = model.scorer, rows[0], len(rows)
    encoding = Encoding.size(scorer.layers, scorer.window, scorer.width)
    return {
        "row": round(of_rows / count),
        "encoding": encoding,
        "lists_inputs": round((of_encodings + of_lists) / count - encoding),  # those of the history with the first
        "last_rankings": round(of_rankings / count),
        "on_disk": len(encode_head(row)) + sum(len(encode_list(listed)) for listed in row.lists),
    }


def _ranking(model: ServingModel, user: str, row: UserRow) -> LastRanking:
    (result,) = model.rank([(user, row)])
    listed = row.lists[0].item_ids
    return LastRanking(listed, "id", 1, model.version, result.ranks, None, result.statistics)
