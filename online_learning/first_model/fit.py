"""The first model of a data set, trained offline: the log is folded as a worker would, then learned in epochs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch
from msgspec import Struct

from online_learning.data.dataset import DataSet, LogRecord
from online_learning.data.recall import CountRecall, with_sampled_lists
from online_learning.first_model.encoders import copy_encoder, publish_encoder
from online_learning.first_model.epochs import train_epochs
from online_learning.first_model.item_texts import described_items
from online_learning.first_model.log_examples import gather
from online_learning.first_model.warm import TakenOver, warm_tables, warm_weights
from online_learning.learning.learner import Learner, empty_arrays, model_config
from online_learning.progress import ProgressReport, Report
from online_learning.recipe import Recipe
from online_learning.releases.versions import Origin
from online_learning.releases.writing import Provenance, publish_model
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Item, User
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.registry.bundle import check_writable, new_version
from ranker.registry.encoder import load_encoder
from ranker.registry.settings import RegistrySettings
from ranker.registry.words import words_of


class FirstModel(Struct, frozen=True, kw_only=True):
    """What a first training made."""

    version: str
    sha256: str
    examples: int
    items: int
    seconds: float
    loss: float
    warm_from: TakenOver | None = None


def fit(
    data: DataSet,
    path: Path,
    registry: str,
    *,
    model: str = "default",
    since: int | None = None,
    until: int | None = None,
    recipe: Recipe | None = None,
    encoder: str = "minilm",
    warm: Origin | None = None,
    offsets: Mapping[str, int] | None = None,
    report: Report = lambda _: None,
) -> FirstModel:
    """Train a first model on a data set and publish it.

    Args:
        data: the reader.
        path: the data set's file or folder.
        registry: where encoder and bundle go: a folder or an fsspec address.
        model: the model's name in the registry.
        since: leave out what happened before this time, in milliseconds.
        until: leave out what happened from this time on, in milliseconds.
        recipe: how to learn.
        encoder: a sentence encoder, see `online_learning.first_model.encoders`.
        warm: a version to begin with, as far as it fits; see `online_learning.first_model.warm`.
        offsets: `topic-partition` -> where a trainer that goes on from this model begins to read.
        report: called with how far it is.

    Raises:
        LiverankError: the data cannot be read, or holds no list that drew a positive action, or the registry cannot be
            written.
    """
    began, recipe = time.monotonic(), recipe or data.recipe
    check_writable(registry)
    torch.set_num_threads(1)  # matrices this small: a second thread waits more than it works
    with TemporaryDirectory(prefix="liverank-encoder-") as made:
        name = publish_encoder(encoder, made)
        text_encoder = load_encoder(RegistrySettings(address=made), name, Path(made) / "cache")
        records = _between(_with_lists(data, path), since, until)
        recall = CountRecall(data.recalled) if data.recalled else None
        catalog = Catalog(data.schema.item_numeric)
        config = model_config(data.schema, dropout=recipe.dropout, **recipe.sizes)
        arrays = warm_tables(warm, empty_arrays(config, text_encoder.dim, recipe.neighbours), name)
        tables = ItemTables(arrays, catalog, name)
        described = described_items(records, catalog, text_encoder, report)
        words = words_of(text_encoder)
        examples, newest = gather(described, tables, data.schema, report, recipe.lag_s, recall, words)
        if not examples:
            within = "" if since is None and until is None else " in the time that is to be learned from"
            raise LiverankError(
                f"{path} holds no list that drew a positive action{within}; there is nothing to learn from"
            )
        copy_encoder(Path(made), registry, name)  # what cannot be learned from leaves the registry as it was
    learner = Learner(config, tables, recipe)
    taken = None if warm is None else warm_weights(warm, learner.model, data.schema, arrays)
    loss = train_epochs(learner, examples, report)
    report(ProgressReport("export", 0, 0))
    version = new_version(now_ms())
    about = Provenance(
        model=model, schema=data.schema, encoder=name, created=now_ms(), version=version,
        learned_until=newest, metrics={"loss": loss, "examples": float(len(examples))},
        recipe=recipe, offsets=dict(offsets or {}), warm_from={} if taken is None else msgspec.to_builtins(taken),
    )  # fmt: skip
    _, sha256 = publish_model(learner.model, learner.table_arrays(), about, registry)
    return FirstModel(
        version=version, sha256=sha256, examples=len(examples), items=catalog.count - 1,
        seconds=time.monotonic() - began, loss=loss, warm_from=taken,
    )  # fmt: skip


def _with_lists(data: DataSet, path: Path) -> Iterable[LogRecord]:
    records = data.records(path)
    return records if data.lists or data.recalled else with_sampled_lists(records, data.schema)


def _between(records: Iterable[LogRecord], since: int | None, until: int | None) -> Iterator[LogRecord]:
    for record in records:
        ts = None if isinstance(record, Item | User) else record.ts
        if ts is None or ((until is None or ts < until) and (since is None or ts >= since)):
            yield record
