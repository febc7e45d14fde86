"""`liverank bench stages`: the processor time that a worker spends on one input, by stage.

The parts are the worker's own, put together without a broker: what would be sent is counted and let go of. Each input
goes alone through all of them, as under a light load. Seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import process_time_ns
from typing import Any

import cramjam
from msgspec.structs import replace
from rich.console import Console

from liverank.bench.load import LoadInput
from liverank.bench.models import VersionMaker, bench_people, item_vectors, past_views
from liverank.client.messages import message_of
from liverank.measure.machine import bare_machine
from liverank.settings import Settings, changed
from liverank.simulate.users import RECALLED_FROM
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import LiverankError
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import MOST_REASONS, CandidateList
from ranker.contracts.topics import EXAMPLES, RANKINGS
from ranker.items.catalog import Catalog
from ranker.serving.model import ServingModel, load_model
from ranker.serving.slot import ModelSlot
from ranker.state.fold import apply_input
from ranker.state.row import UserRow
from streams.kafka.outbox import Confirmed, Instead, Outbox
from streams.models.canary_watch import CanaryWatch
from streams.models.deltas import Deltas
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.examples import Examples
from streams.pipeline.jobs import RankList
from streams.pipeline.rankings import Rankings
from streams.settings import WorkerSettings
from streams.state.cache import RowCache
from streams.state.recent import RecentRows
from streams.state.store import Key, StoredRow
from streams.telemetry.metrics import Metrics

_BATCH = 8  # examples that go to a partition at once


@dataclass(frozen=True)
class StagesOptions:
    """What the user chose."""

    users: int = 200
    candidates: int = 100
    history: int = 50
    inputs: int = 2000
    items: int = 10_000
    detail: str = "full"  # of rankings: `ranking_detail` of a worker
    reasons: int = 0  # that each list asks for


class _Counted(Outbox):
    """Counts what is sent and its bytes, by topic; nothing goes anywhere."""

    def __init__(self) -> None:
        self.sent, self.bytes = Counter[str](), Counter[str]()
        self.explained = 0  # rankings with reasons
        self.compressed = 0  # bytes of examples, as batches of them are sent
        self._batch: list[bytes] = []

    def clear(self) -> None:
        """Count from 0."""
        self.sent.clear()
        self.bytes.clear()
        self.explained = self.compressed = 0
        self._batch.clear()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = -1,
        confirmed: Confirmed | None = None,
        at_ms: int | None = None,
        instead: Instead | None = None,
    ) -> None:
        """As `Outbox.send`."""
        self.sent[topic] += 1
        self.explained += b'"reasons":[' in (value or b"")
        self.bytes[topic] += len(value or b"")
        if topic == EXAMPLES:
            self._batch.append(value or b"")
            if len(self._batch) == _BATCH:
                self.compressed += len(bytes(cramjam.zstd.compress(b"".join(self._batch), level=1)))
                self._batch.clear()


class _Laps:
    """Processor time of this process by stage, a number an input; what lies between two laps is the stage's."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, list[int]] = defaultdict(list)
        self._since = 0

    def begin(self) -> None:
        """An input begins."""
        self._since = process_time_ns()

    def ends(self, stage: str) -> None:
        """A stage of the input ends, and the next one begins."""
        self.taken[stage].append(process_time_ns() - self._since)
        self._since = process_time_ns()


class _Path:
    """The way of an input through a worker's parts, stage by stage: `InputHandler`, `Rankings` and `Checkpoints` have
    the same calls.
    """

    def __init__(self, settings: WorkerSettings, model: ServingModel) -> None:
        slot, metrics, self.outbox = ModelSlot(model), Metrics(), _Counted()
        watch = CanaryWatch(settings, slot, {}, self.outbox, metrics.models, lambda: 1.0)
        self._settings, self._model = settings, model
        self._rows = RowCache(lambda partition, user: StoredRow(None, {}), settings.budget.rows)
        self._examples = Examples(settings, slot, self.outbox, watch, metrics)
        self._decode = InputDecoder(model.schema, settings.limits, settings.broker.topics.translated, metrics.left_out)
        self._rankings = Rankings(
            settings=settings,
            slot=slot,
            deltas=Deltas(metrics.models),
            recent=RecentRows(),
            examples=self._examples,
            watch=watch,
            outbox=self.outbox,
            dead_letters=DeadLetters(self.outbox, metrics),
            metrics=metrics,
            again=lambda: None,
        )
        self._offsets: Counter[str] = Counter()
        self.stored = 0  # bytes of heads and lists, as a checkpoint after each input writes them

    def __call__(self, record: UserInput, laps: _Laps) -> None:
        topic, key, value = message_of(record)
        at = Position(topic, 0, self._offsets[topic], now_ms())
        self._offsets[topic] += 1
        assert key is not None
        laps.begin()
        decoded = self._decode(at, key, value, now_ms())
        laps.ends("decode")
        assert isinstance(decoded, UserInput)
        before, row = self._folded((0, key), decoded, at)
        jobs = [RankList(key, row.of(listed), at, topic, getattr(decoded, "event_id", None)) for listed in row.current]
        laps.ends("fold")
        self._examples.applied((0, key), before, decoded, row, self._rankings.last(decoded.user_id))
        laps.ends("examples_queued")
        if jobs:
            self._rank(jobs, laps)
        self._examples.drain(0.0)
        laps.ends("examples")
        for changed_row in self._rows.take_changed().values():
            for written in changed_row.values().values():
                self.stored += len(written or b"")
        self._rows.written()
        laps.ends("row_encoded")

    def _folded(self, place: Key, record: UserInput, at: Position) -> tuple[UserRow, UserRow]:
        before = self._rows.get(place)
        after = apply_input(before, record, at, self._model.schema, self._settings.rows)
        self._rows.put(place, after)
        return before, after

    def _rank(self, jobs: list[RankList], laps: _Laps) -> None:
        inputs = self._model.inputs([(job.user.decode(), job.row) for job in jobs])
        laps.ends("graph_inputs")
        logits = self._model.scorer.score(inputs)
        laps.ends("graphs")
        rows = zip(jobs, inputs, logits, strict=True)
        results = [self._model.ranked(job.row, user.candidates, scores) for job, (_, user), scores in rows]
        laps.ends("order")
        for job, result in zip(jobs, results, strict=True):
            self._rankings.send(self._model, job, result, reasons=job.row.lists[-1].reasons > 0)
        laps.ends("record")


def bench_stages(options: StagesOptions, console: Console) -> dict[str, Any]:
    """Measure it.

    Raises:
        LiverankError: the sizes do not fit together.
    """
    if min(options.users, options.inputs, options.candidates) < 1 or options.history < 0:
        raise LiverankError("users, inputs and candidates must be at least 1, history at least 0")
    if not 0 <= options.reasons <= MOST_REASONS:
        raise LiverankError(f"reasons must be 0 to {MOST_REASONS}")
    if not options.candidates <= min(options.items, RECALLED_FROM):
        raise LiverankError(f"candidates must be at most items, and at most {RECALLED_FROM}")
    with TemporaryDirectory(prefix="liverank-stages-") as temporary, console.status("a model and its users"):
        folder = Path(temporary)
        settings = changed(Settings(), registry=str(folder / "registry"), lists=1, ranking_detail=options.detail)
        names = [f"item-{number:08}" for number in range(options.items)]
        path = _Path(settings.worker, _model(settings, names, folder))
        people = bench_people("user", names, options.users, options.candidates)
        for user in people:
            for view in past_views(user.user_id, options.history, names, now_ms()):
                path(view, _Laps())
            path(_asking(user.next_record(now_ms()), options), _Laps())
        path.outbox.clear()
        path.stored = 0
        laps, kinds, taken = _Laps(), Counter[str](), 0
        for number in range(options.inputs):
            record = _asking(people[number % len(people)].next_record(now_ms()), options)
            kinds["lists" if isinstance(record, CandidateList) else "clicks"] += 1
            taken += len(message_of(record)[2] or b"")
            path(record, laps)
    return {
        "stages_us": _figures(laps),
        "bytes": {
            "inputs": round(taken / options.inputs),
            **{topic: round(path.outbox.bytes[topic] / options.inputs) for topic in (RANKINGS, EXAMPLES)},
            "examples_compressed": round(path.outbox.compressed / options.inputs),
            "rows": round(path.stored / options.inputs),
        },
        "inputs": dict(kinds),
        "rankings": path.outbox.sent[RANKINGS],
        "explained": path.outbox.explained,
        "examples": path.outbox.sent[EXAMPLES],
        "machine": bare_machine(),
        "options": asdict(options),
    }


def _asking(record: LoadInput, options: StagesOptions) -> LoadInput:
    """A list asks for reasons, where that is wanted."""
    if not options.reasons or not isinstance(record, CandidateList):
        return record
    return replace(record, reasons=options.reasons)


def _model(settings: Settings, names: list[str], folder: Path) -> ServingModel:
    version = VersionMaker(settings, names, folder).publish().version
    catalog = Catalog()
    for vector in item_vectors(names):
        catalog.put_vector(vector)
    return load_model(folder / "registry" / settings.registry.model / version, catalog, settings.worker.serving)


def _figures(laps: _Laps) -> dict[str, dict[str, float]]:
    """Of each stage, and of all together, the median and the mean of the inputs."""
    whole = [sum(parts) for parts in zip(*laps.taken.values(), strict=True)]
    stages = {**laps.taken, "all": whole}
    return {
        name: {"median": round(median(taken) / 1000, 1), "mean": round(fmean(taken) / 1000, 1)}
        for name, taken in stages.items()
    }
