"""The command line: each command reads its settings, calls one function and prints what it gave."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from liverank.cli.bench import bench_app
from liverank.cli.model import model_app
from liverank.cli.terminal import Config, Json, Registry, console, errors
from liverank.cli.terminal import report as _report
from liverank.cli.terminal import settings_from as _settings
from ranker.contracts.errors import LiverankError

# Torch, Faust and Kafka are imported inside the commands that need them: serving has no torch, and --help is quick.
# ruff: noqa: PLC0415

app = typer.Typer(
    help="Re-ranks each person's list after every event, with a Transformer that keeps learning from the same stream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
topics_app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(model_app, name="model")
app.add_typer(bench_app, name="bench")

Data = Annotated[Path, typer.Option("--data", help="The data set's file or folder.")]
DataName = Annotated[
    str, typer.Argument(help="trivago, yoochoose, movielens-100k, movielens-1m, or (replay) a JSONL file.")
]


def main() -> None:
    """Entry point: an error of the domain is one readable line, not a traceback."""
    try:
        app()
    except LiverankError as error:
        errors.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("torch", "polars", "transformers", "onnx", "ir_measures"):
            errors.print(
                f"[red]error:[/red] this command needs {error.name}; install liverank\\[train]", highlight=False
            )
            sys.exit(1)
        raise


@app.command(epilog="Example:  LIVERANK_BROKERS=kafka:9092 LIVERANK_REGISTRY=s3://models liverank worker")
def worker(config: Config = None) -> None:
    """Serve: consume events and candidate lists, keep every user's state, send rankings. Stops on SIGTERM."""
    from streams.worker import run

    _log_to_stderr()
    run(_settings(config))


@app.command(epilog="Example:  LIVERANK_BROKERS=kafka:9092 LIVERANK_REGISTRY=s3://models liverank trainer")
def trainer(config: Config = None) -> None:
    """Learn: consume examples, send changed item rows and new bundles. Stops on SIGTERM."""
    from online_learning.trainer.process import run
    from streams.kafka.connection import aiokafka
    from streams.telemetry.logs import quieten

    _log_to_stderr()
    quieten()
    settings = _settings(config)
    run(settings, aiokafka(settings))


@topics_app.command("create", epilog="Example:  liverank topics create")
def topics_create(config: Config = None) -> None:
    """Create every topic that is missing, with its partitions and clean-up policy."""
    from streams.kafka.admin import create

    for line in create(_settings(config)):
        console.print(line, highlight=False)


@topics_app.command("check", epilog="Example:  liverank topics check")
def topics_check(config: Config = None) -> None:
    """Say what is wrong with the topics; exits 1 where something is."""
    from streams.kafka.admin import check

    problems = check(_settings(config))
    for line in problems:
        errors.print(line, highlight=False)
    if problems:
        raise typer.Exit(1)
    console.print("all topics are as they should be")


@app.command(epilog="Example:  liverank train trivago --data trivago.parquet --out registry")
def train(
    dataset: DataName,
    data: Data,
    out: Annotated[str | None, typer.Option("--out", help="The registry; else LIVERANK_REGISTRY.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Leave out what is from this time (UTC) on.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the examples; else the recipe's.")] = None,
    encoder: Annotated[str, typer.Option(help="minilm, or a transformers model or path.")] = "minilm",
    config: Config = None,
    json: Json = None,
) -> None:
    """Fit a first model offline and publish its bundle."""
    from online_learning.first_model.fit import fit

    settings = _settings(config, registry=out)
    recipe = _data_set(dataset).recipe
    if epochs is not None:
        recipe = msgspec.structs.replace(recipe, epochs=epochs)
    with _progress() as report:
        made = fit(
            _data_set(dataset), data, settings.registry, model=settings.model, until=_time(until), recipe=recipe,
            encoder=encoder, report=report,
        )  # fmt: skip
    _report(msgspec.to_builtins(made), json)


@app.command(
    epilog="Example:  liverank evaluate trivago --data trivago.parquet --train-until 2018-11-08T00:00 "
    "--test-from 2018-11-08T00:00 --test-to 2018-11-08T12:00 --json out.json"
)
def evaluate(
    dataset: DataName,
    data: Data,
    train_until: Annotated[str | None, typer.Option(help="Train on what is before; else the registry's model.")] = None,
    test_from: Annotated[str | None, typer.Option(help="Rank what was chosen from this time (UTC) on.")] = None,
    test_to: Annotated[str | None, typer.Option(help="... and before this time (UTC).")] = None,
    mode: Annotated[str, typer.Option(help="frozen, or online: next items, learned from as they come.")] = "frozen",
    sync: Annotated[str, typer.Option(help="With online: between two syncs of what was learned (10s, 5m).")] = "10s",
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rank a log's lists, or its next items, from the past alone, next to simple rankers."""
    from liverank.offline.evaluate import Question, run

    question = Question(
        train_until=_time(train_until), start=_time(test_from), end=_time(test_to), mode=mode, sync_ms=_duration(sync)
    )
    with _progress() as report:
        result = run(_data_set(dataset), data, _settings(config, registry=registry), question, report)
    _report(result, json)


@app.command(epilog="Example:  liverank replay trivago --data trivago.parquet --pace 10")
def replay(
    dataset: DataName,
    data: Annotated[Path | None, typer.Option("--data", help="The data set's file or folder.")] = None,
    pace: Annotated[float, typer.Option(help="1: the log's own speed, 10: ten times it, 0: as fast as it goes.")] = 0,
    start: Annotated[str | None, typer.Option("--from", help="Send what is from this time (UTC) on.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="... and before this time (UTC).")] = None,
    users_at_once: Annotated[int, typer.Option(help="Users that may have a record on its way.")] = 128,
    config: Config = None,
    json: Json = None,
) -> None:
    """Send a data set, or a JSONL file of messages, into Kafka; every list is ranked before its click is sent."""
    from liverank.offline import replay as replaying
    from streams.kafka.connection import aiokafka

    connection = aiokafka(_settings(config))
    if data is None:
        _report({"sent": asyncio.run(replaying.send_file(Path(dataset), connection))}, json)
        return
    records = replaying.between(_data_set(dataset).records(data), _time(start), _time(end))
    with _progress() as report:
        from online_learning.first_model.fit import Progress as Done

        done = asyncio.run(
            replaying.replay(
                records, connection, pace=pace, users_at_once=users_at_once,
                on_progress=lambda sent: report(Done("replay", sent, 0)),
            )
        )  # fmt: skip
    _report(msgspec.to_builtins(done), json)


@app.command(epilog="Example:  liverank rank events.jsonl --registry registry --user u1")
def rank(
    events: Annotated[Path, typer.Argument(help="JSONL: one user's events and candidate lists.")],
    user: Annotated[str | None, typer.Option(help="Whose list to rank, where the file holds several users.")] = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rank one user's current list offline: events and candidates in, the list out, no Kafka."""
    from liverank.offline.rank import rank_file

    ranking = rank_file(events, user, _settings(config, registry=registry))
    table = Table("rank", "item", "score", title=f"{ranking.user_id}, list {ranking.request_id}, model {ranking.model}")
    for line in ranking.items:
        table.add_row(str(line.rank), line.item_id, f"{line.score:.4f}")
    _report(msgspec.to_builtins(ranking), json, table)


@app.command(epilog="Example:  liverank schema --out schemas")
def schema(
    out: Annotated[Path | None, typer.Option(help="Write a file a record, and asyncapi.json, here.")] = None,
) -> None:
    """The contracts: a JSON Schema for every record, and an AsyncAPI document."""
    from importlib.metadata import version

    from ranker.contracts.documents import asyncapi, json_schemas

    documents: dict[str, Any] = {**json_schemas(), "asyncapi": asyncapi(version("liverank"))}
    if out is None:
        print(msgspec.json.format(msgspec.json.encode(documents), indent=2).decode())
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        path = out / (f"{name}.json" if name == "asyncapi" else f"{name}.schema.json")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    console.print(f"{len(documents)} documents are in {out}")


@app.command(epilog="Example:  liverank demo --headless --seconds 30 --json demo.json")
def demo(
    broker: Annotated[str, typer.Option(help="An address, kafka, embedded, or auto.")] = "auto",
    headless: Annotated[bool, typer.Option("--headless", help="No live view.")] = False,
    seconds: Annotated[float, typer.Option(help="How long the users click; 0: until Ctrl-C.")] = 0,
    users: Annotated[int, typer.Option(help="Simulated users.")] = 40,
    rate: Annotated[float, typer.Option(help="Events a second, all users together.")] = 40,
    data: Annotated[Path | None, typer.Option(help="MovieLens-100K; else it is fetched.", show_default=False)] = None,
    json: Json = None,
) -> None:
    """The whole loop here: broker, first model, worker, trainer, and people whose lists re-order as they click."""
    from liverank.demo.run import DemoOptions, run_demo

    live = not headless and sys.stdout.isatty()
    result = run_demo(
        DemoOptions(broker=broker, live=live, seconds=seconds, users=users, rate=rate, data=data), console
    )
    _report(result, json)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _data_set(name: str) -> Any:
    from online_learning.data import DATASETS

    if name not in DATASETS:
        raise LiverankError(f"there is no data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def _time(text: str | None) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 time; UTC where it names no zone."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise LiverankError(f"{text!r} is no time; write it as 2018-11-08T00:00, in UTC") from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _duration(text: str) -> int:
    """Milliseconds of `500ms`, `10s`, `5m` or `24h`."""
    number, unit = text.rstrip("hms"), text[len(text.rstrip("hms")) :]
    factors = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
    if unit not in factors or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise LiverankError(f"{text!r} is no duration; write it as 500ms, 10s, 5m or 24h")
    return round(float(number) * factors[unit])


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress bar on the error stream; gives a function that takes `online_learning.first_model.fit.Progress`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=errors, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(progress: Any) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=None, note="")
            bars.update(
                tasks[progress.stage], completed=progress.done, total=progress.total or None, note=progress.note
            )

        yield report
