"""The first model of a data set, trained offline: the log is folded as a worker would, then learned in epochs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from msgspec import Struct
from torch import nn

from online_learning.data import DataSet
from online_learning.data.dataset import Record
from online_learning.data.log_fold import Fold, Step, chosen_from_list, time_of
from online_learning.data.recall import Recall, with_sampled_lists
from online_learning.first_model.encoders import publish_encoder
from online_learning.learning.counts import TRAIL, ItemCounts
from online_learning.learning.learner import Learner, TrainingExample, empty_arrays, model_config, training_example
from online_learning.recipe import Recipe
from online_learning.releases.bundle_files import Provenance, publish_model
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import CandidateList, Example, Interaction, Item, ItemVector
from ranker.contracts.schema import FeatureSchema
from ranker.items.catalog import UNKNOWN, Catalog, item_text, text_hash
from ranker.items.tables import ItemTables
from ranker.registry.bundle import new_version
from ranker.registry.encoder import TextEncoder, load_encoder
from ranker.state.attribution import example_of_silence, examples_of
from ranker.state.fold import UserHistory, hash_id

_TEXTS_AT_ONCE = 256
ATTRIBUTION_MS = 30_000


class Progress(Struct, frozen=True):
    """How far a long piece of work is: `done` of `total` (0 where it is not known), and a word on it."""

    stage: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Progress], None]


class FirstModel(Struct, frozen=True, kw_only=True):
    """What a first training made."""

    version: str
    sha256: str
    examples: int
    items: int
    seconds: float
    loss: float


def fit(
    data: DataSet,
    path: Path,
    registry: str,
    *,
    model: str = "default",
    until: int | None = None,
    recipe: Recipe | None = None,
    encoder: str = "minilm",
    report: Report = lambda _: None,
) -> FirstModel:
    """Train a first model on a data set and publish it.

    Args:
        data: the reader.
        path: the data set's file or folder.
        registry: where encoder and bundle go: a folder or an fsspec address.
        model: the model's name in the registry.
        until: leave out what happened from this time on, in milliseconds.
        recipe: how to learn.
        encoder: a sentence encoder, see `online_learning.first_model.encoders`.
        report: called with how far it is.

    Raises:
        LiverankError: the data cannot be read, or holds no list that drew a positive action.
    """
    began, recipe = time.monotonic(), recipe or data.recipe
    torch.set_num_threads(1)  # matrices this small: a second thread waits more than it works
    name = publish_encoder(encoder, registry)
    with TemporaryDirectory(prefix="liverank-encoder-") as cache:
        text_encoder = load_encoder(registry, name, Path(cache))
        records = _until(_with_lists(data, path), until)
        recall = Recall(data.recalled) if data.recalled else None
        catalog = Catalog(data.schema.item_numeric)
        config = model_config(data.schema, dropout=recipe.dropout, **recipe.sizes)
        tables = ItemTables(empty_arrays(config, text_encoder.dim, recipe.neighbours), catalog, name)
        described = described_items(records, catalog, text_encoder, report)
        examples, newest = gather(described, tables, data.schema, report, recipe.lag_s, recall)
    if not examples:
        raise LiverankError(f"{path} holds no list that drew a positive action; there is nothing to learn from")
    learner = Learner(config, tables, recipe)
    loss = train(learner, examples, report)
    report(Progress("export", 0, 0))
    version = new_version()
    about = Provenance(
        model=model, schema=data.schema, encoder=name, created=time.time_ns() // 10**6, version=version,
        learned_until=newest, metrics={"loss": loss, "examples": float(len(examples))},
    )  # fmt: skip
    _, sha256 = publish_model(learner.model, learner.table_arrays(), about, registry)
    return FirstModel(
        version=version, sha256=sha256, examples=len(examples), items=catalog.count - 1,
        seconds=time.monotonic() - began, loss=loss,
    )  # fmt: skip


def described_items(
    records: Iterable[Record], catalog: Catalog, encoder: TextEncoder, report: Report
) -> Iterator[Interaction | CandidateList]:
    """Puts items and their encoded texts into the catalogue, and hands everything else on."""
    waiting: list[Item] = []
    done = 0

    def encode() -> None:
        nonlocal done
        vectors = encoder.encode([item_text(item) for item in waiting])
        for item, vector in zip(waiting, vectors, strict=True):
            catalog.put_vector(vector_record(item, vector, encoder.name))
        done += len(waiting)
        report(Progress("items", done, 0))
        waiting.clear()

    for record in records:
        if isinstance(record, Item):
            catalog.put(record)
            if catalog.wants_vector(record, encoder.name):
                waiting.append(record)
            if len(waiting) >= _TEXTS_AT_ONCE:
                encode()
            continue
        if waiting:
            encode()
        yield record


def vector_record(item: Item, vector: np.ndarray, encoder: str) -> ItemVector:
    """An item's encoded text as it goes onto `item-vectors`."""
    return ItemVector(
        item_id=item.item_id,
        encoder=encoder,
        text_hash=text_hash(item_text(item)),
        vector=vector.astype("<f2").tobytes(),
    )


def gather(
    records: Iterable[Interaction | CandidateList],
    tables: ItemTables,
    schema: FeatureSchema,
    report: Report,
    lag_s: float = 0.0,
    recall: Recall | None = None,
) -> tuple[list[TrainingExample], int]:
    """Every example of a log with its features as they were then, and the newest time in it.

    Args:
        records: in order of time.
        tables: their item counts move on with the log, each event after its own example.
        schema: of the data set.
        report: called with how far it is.
        lag_s: how much later than an event, in the log's time, it is counted. Served counts are as old as the last
            sync; examples whose counts already hold the user's own last touches would teach what serving never sees.
        recall: makes a list before each positive event; None where the log has its own.
    """
    counts = ItemCounts(tables)
    rows = Fold(schema)
    examples: list[TrainingExample] = []
    uncounted: deque[Step] = deque()
    newest = 0
    for number, record in enumerate(_recalled(records, rows, tables, schema, recall)):
        step = rows.apply(record)
        while uncounted and time_of(uncounted[0].record) < time_of(record) - lag_s * 1000:
            count(uncounted.popleft(), counts, schema)
        made = join(step, tables, schema)
        examples += [training_example(one, tables, schema) for one in made if recall is None or one.outcome is not None]
        uncounted.append(step)
        newest = max(newest, step.after.now)
        if number % 1000 == 0:
            report(Progress("events", number, 0, f"{len(examples)} examples"))
    for step in uncounted:
        count(step, counts, schema)
    return examples, newest


def _recalled(
    records: Iterable[Interaction | CandidateList],
    rows: Fold,
    tables: ItemTables,
    schema: FeatureSchema,
    recall: Recall | None,
) -> Iterator[Interaction | CandidateList]:
    """The records, with a list before each positive event of a user who has a history, from what is counted by then."""
    positives = {action.name for action in schema.positives}
    for record in records:
        if recall is not None and isinstance(record, Interaction):
            row = rows.row(record.user_id)
            if row.events and record.action in positives:
                yield recall(row, tables, time_of(record), f"recalled-{record.event_id}", record.user_id)
            recall.know(record.item_id)
        yield record


def join(
    step: Step, tables: ItemTables, schema: FeatureSchema, window_ms: int = ATTRIBUTION_MS, model: str = ""
) -> list[Example]:
    """The examples of one step of a log, as a worker would send them."""
    statistics = partial(_statistics, tables)
    return examples_of(step.before, step.record, step.after, schema, window_ms, model, statistics)


def silence(user_id: str, row: UserHistory, tables: ItemTables, schema: FeatureSchema) -> Example | None:
    """The example of a row's list once its window has passed without a choice, as a worker would send it."""
    return example_of_silence(user_id, row, schema, ATTRIBUTION_MS, "", partial(_statistics, tables))


def _statistics(tables: ItemTables, items: tuple[str, ...]) -> np.ndarray:
    tables.sync()
    return tables.statistics[[tables.catalog.index_of.get(hash_id(item), UNKNOWN) for item in items]]


def count(step: Step, counts: ItemCounts, schema: FeatureSchema) -> None:
    """Count an event into the tables, once its example is made."""
    record, catalog = step.record, counts.tables.catalog
    if isinstance(record, CandidateList) and step.after.candidates is not None:
        indexes = [catalog.add(hash_id(item)) for item in step.after.candidates.item_ids]
        counts.show(np.array(indexes, np.int64))
    elif isinstance(record, Interaction):
        index = catalog.add(hash_id(record.item_id))
        counts.touch(index)
        if chosen_from_list(step) is not None and schema.positive_numbers[schema.action_number(record.action)]:
            counts.choose(index)
        counts.follow([catalog.add(item) for item in step.before.newest_items(TRAIL)], index)


def train(learner: Learner, examples: Sequence[TrainingExample], report: Report) -> float:
    """Epochs over the examples; the mean loss of the last one. The averaged weights are what stays."""
    recipe = learner.recipe
    rng = np.random.default_rng(recipe.seed)
    total, step, loss = recipe.epochs * -(-len(examples) // recipe.batch), 0, 0.0
    average = Average(learner.model, recipe.averaging)
    for epoch in range(recipe.epochs):
        losses = []
        for batch in batches(examples, recipe.batch, rng):
            losses.append(learner.learn(batch, scheduled(recipe, step, total)))
            step += 1
            average.update(learner.model, step)
            report(Progress("epochs", step, total, f"epoch {epoch + 1}/{recipe.epochs} loss {np.mean(losses):.4f}"))
        loss = float(np.mean(losses))
    average.put(learner.model)
    return loss


class Average:
    """An exponential moving average of a model's weights (B. Polyak and A. Juditsky, 1992), short at the start."""

    def __init__(self, model: nn.Module, share: float) -> None:
        self._share = share
        self._weights = [weight.detach().clone() for weight in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after a step into the average."""
        kept = min(self._share, step / (step + 10))
        for mean, weight in zip(self._weights, model.parameters(), strict=True):
            mean.lerp_(weight, 1 - kept)

    @torch.no_grad()
    def put(self, model: nn.Module) -> None:
        """Make the averages the model's weights."""
        for mean, weight in zip(self._weights, model.parameters(), strict=True):
            weight.copy_(mean)


def batches(
    examples: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> Iterator[list[TrainingExample]]:
    """All examples in random batches of histories of about the same length, which need little padding."""
    lengths = np.log1p([len(example.inputs.history) for example in examples]) + rng.normal(0, 0.3, len(examples))
    order = np.argsort(lengths)
    starts = rng.permutation(range(0, len(order), size))
    for start in starts:
        yield [examples[at] for at in order[start : start + size]]


def scheduled(recipe: Recipe, step: int, total: int) -> float:
    """The learning rate of a step: linear warm-up times half a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return float(recipe.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / max(total, 1)))))


def _with_lists(data: DataSet, path: Path) -> Iterable[Record]:
    records = data.records(path)
    return records if data.lists or data.recalled else with_sampled_lists(records, data.schema)


def _until(records: Iterable[Record], until: int | None) -> Iterator[Record]:
    for record in records:
        ts = None if isinstance(record, Item) else record.ts
        if until is None or ts is None or ts < until:
            yield record
