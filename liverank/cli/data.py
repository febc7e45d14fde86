"""Logs: `train`, `evaluate`, `replay` and `rank`; a log is a folder, or a public data set by name."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.table import Table

from liverank.cli.options import (
    Config,
    Json,
    Registry,
    Since,
    Until,
    Version,
    config_file,
    duration_of,
    hidden,
    moment_of,
    settings_from,
    version_from,
)
from liverank.settings import Settings, load_settings
from liverank.terminal import errors, progress_bars, report
from online_learning.folder.description import CONFIG_FILE
from online_learning.progress import Report
from ranker.contracts.errors import LiverankError

# Torch and Kafka are imported inside the commands that need them.
# ruff: noqa: PLC0415

Data = Annotated[
    Path | None, typer.Option("--data", help="The file or folder of a data set given by name.", show_default=False)
]
DataName = Annotated[
    str,
    typer.Argument(
        metavar="DIR|NAME",
        help="A folder of files (docs/data.md); or trivago, yoochoose, movielens-100k, movielens-1m.",
    ),
]


def train_command(
    dataset: Annotated[
        str | None, typer.Argument(metavar="DIR|NAME", help="A folder of files (docs/data.md), or a data set's name.")
    ] = None,
    data: Data = None,
    from_kafka: Annotated[
        bool, typer.Option("--from-kafka", help="Train on what a running system's topics hold.")
    ] = False,
    warm_from: Annotated[
        str | None,
        typer.Option(help="Begin with what fits of this version, or of the one `serving`.", show_default=False),
    ] = None,
    since: Since = None,
    until: Until = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the examples; else the recipe's.", min=1)] = None,
    encoder: Annotated[str, typer.Option(help="minilm, or a transformers model or path.")] = "minilm",
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
    out: Annotated[str | None, hidden("--out")] = None,
) -> None:
    """Fit a model offline, on a log or on a running system's topics, and put its bundle into the registry."""
    from online_learning.first_model.fit import fit
    from ranker.registry.signatures import check_signing

    if from_kafka == (dataset is not None):
        raise LiverankError(
            "train on a folder or a data set's name, or on the topics with --from-kafka: give one of them"
        )
    settings, begin, end = settings_from(config, registry=registry or out), moment_of(since), moment_of(until)
    check_signing(settings.registry)
    if dataset is None:
        from liverank.operate.retrain import Retraining, train_from_topics

        asked = Retraining(since=begin, until=end, warm_from=warm_from, epochs=epochs, encoder=encoder)
        with progress_bars() as show:
            made, noted = train_from_topics(settings, config_file(config), asked, show)
    else:
        place, warm = settings.registry, None if warm_from is None else _version(settings, warm_from)
        with progress_bars() as show:
            log = open_log(dataset, data, show)
            recipe = log.data.recipe if epochs is None else msgspec.structs.replace(log.data.recipe, epochs=epochs)
            made = fit(
                log.data, log.path, place.address, model=place.model, since=begin, until=end, recipe=recipe,
                encoder=encoder, warm=warm, report=show,
            )  # fmt: skip
        noted = _noted(log.data)
    if made.warm_from is not None:
        errors.print(made.warm_from.words, soft_wrap=True)
    report({**msgspec.to_builtins(made), **noted}, json)


def evaluate_command(
    dataset: DataName,
    data: Data = None,
    train_until: Annotated[
        str | None, typer.Option(help="Train on what is before; else, of a folder, until the test begins.")
    ] = None,
    test_from: Annotated[
        str | None, typer.Option(help="Rank what was chosen from this time (UTC) on; else the newest fifth.")
    ] = None,
    test_to: Annotated[str | None, typer.Option(help="... and before this time (UTC).")] = None,
    mode: Annotated[str, typer.Option(help="frozen, or online: learned from as it comes.")] = "frozen",
    origin: Annotated[str | None, typer.Option("--from", help="starter, empty (as shown), or a version.")] = None,
    sync: Annotated[str, typer.Option(help="With online: between two syncs of what was learned (10s, 5m).")] = "10s",
    version: Version = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="A ranker of your own as MODULE:CLASS (docs/data.md).", show_default=False)
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Beside it a model trained on all but the last quarter, in that quarter.")
    ] = False,
    png: Annotated[Path | None, typer.Option("--png", help="Draw the curve.", show_default=False)] = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rank a log's lists, or its next items, from the past alone, next to simple rankers."""
    from liverank.offline.curve import draw_curve, require_drawing
    from liverank.offline.evaluate import ORIGINS, Question, newest_fifth, run_evaluation

    if png is not None:
        require_drawing(png)
    question = Question(
        train_until=moment_of(train_until), start=moment_of(test_from), end=moment_of(test_to), mode=mode,
        sync_ms=duration_of(sync), origin=origin, peers=tuple(peer or ()), offline=offline,
    )  # fmt: skip
    settings = settings_from(config, registry=registry)
    with progress_bars() as show:
        log = open_log(dataset, data, show)
        if data is None and origin is None and question.train_until is None:
            train = registry is None and version is None
            if question.start is None:
                question = newest_fifth(log.data, log.path, question, train=train)
            elif train:
                question = msgspec.structs.replace(question, train_until=question.start)
        if question.train_until is None and origin not in ORIGINS:
            question = msgspec.structs.replace(question, origin=version_from(settings, version or origin))
        result = run_evaluation(log.data, log.path, settings, question, show)
    if png is not None:
        draw_curve(result["curve"], png, f"{log.data.name}: {mode}, from {origin or result['model_version']}")
    report({**result, **_noted(log.data, *result["notes"])}, json)


def replay_command(
    dataset: Annotated[
        str, typer.Argument(metavar="DIR|NAME|FILE", help="As for evaluate; or a JSONL file, a record a line.")
    ],
    data: Data = None,
    pace: Annotated[
        float, typer.Option(help="1: the log's own speed, 10: ten times it, 0: as fast as it goes.", min=0)
    ] = 0,
    since: Since = None,
    until: Until = None,
    users_at_once: Annotated[int, typer.Option(help="Users that may have a record on its way.", min=1)] = 128,
    config: Config = None,
    json: Json = None,
    start: Annotated[str | None, hidden("--from")] = None,
    end: Annotated[str | None, hidden("--to")] = None,
) -> None:
    """Send a data set, or a JSONL file of messages, into Kafka; every list is ranked before its click is sent."""
    from liverank.offline.replay import between, replay, send_file
    from online_learning.progress import ProgressReport
    from streams.access.rights import APPLICATION, check_access
    from streams.kafka.connection import aiokafka

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what is wrong is said here, in one line
    broker = settings_from(config).broker
    with progress_bars() as show:  # what is wrong with a log is said before the broker is asked
        log = None if data is None and Path(dataset).is_file() else open_log(dataset, data, show)
        check_access(broker, APPLICATION)
        connection = aiokafka(broker)
        if log is None:
            report({"sent": asyncio.run(send_file(Path(dataset), connection, broker.topics))}, json)
            return
        records = between(log.data.records(log.path), moment_of(since or start), moment_of(until or end))
        done = asyncio.run(
            replay(
                records, connection, broker.topics, pace=pace, users_at_once=users_at_once,
                on_progress=lambda sent: show(ProgressReport("replay", sent, 0)),
            )
        )  # fmt: skip
    report(msgspec.to_builtins(done), json)


def rank_command(
    events: Annotated[Path, typer.Argument(help="JSONL, a record a line: a user's events and lists (docs/topics.md).")],
    user: Annotated[str | None, typer.Option(help="Whose list to rank, where the file holds several users.")] = None,
    version: Version = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rank one user's newest list offline: events and candidates in, the list out, no Kafka."""
    from liverank.offline.rank import rank_file

    settings = settings_from(config, registry=registry)
    ranking = rank_file(events, user, settings, version_from(settings, version))
    table = Table("rank", "item", "score", title=f"{ranking.user_id}, list {ranking.request_id}, model {ranking.model}")
    for line in ranking.items:
        table.add_row(str(line.rank), line.item_id, "" if line.score is None else f"{line.score:.4f}")
    report(msgspec.to_builtins(ranking), json, table)


class GivenLog(NamedTuple):
    """What a command was given: a `DataSet`, and the path that its records come from."""

    data: Any
    path: Path


def open_log(name: str, path: Path | None, show: Report = lambda _: None) -> GivenLog:
    """A folder, or a public data set by its name and file.

    Args:
        name: of either.
        path: the data set's file.
        show: called with how far each reading of a folder is.

    Raises:
        LiverankError: it is neither.
    """
    from online_learning.data import DATASETS
    from online_learning.folder.log import open_folder

    folder = Path(name)
    if path is None and folder.is_dir():
        check_folder_settings(folder)
        return GivenLog(open_folder(folder, show), folder)
    known = ", ".join(DATASETS)
    if path is None and folder.exists():
        raise LiverankError(f"{name} is a file; give the folder that holds it, as interactions.csv (docs/data.md)")
    if name not in DATASETS:
        raise LiverankError(f"there is no folder and no data set {name!r}; give a folder of files, or one of {known}")
    if path is None:
        raise LiverankError(f"{name} is a data set of others; give its file with --data, or a folder of files")
    return GivenLog(DATASETS[name], path)


def _version(settings: Settings, name: str) -> Any:
    """A version of the registry as a training begins with it; for one that is named nobody asks the broker."""
    from online_learning.first_model.warm import open_version

    if name != "serving":
        return open_version(settings.registry, name)
    from liverank.operate.retrain import version_to_begin_with

    return version_to_begin_with(settings, name)


def check_folder_settings(folder: Path) -> None:
    """Refuse a folder whose liverank.toml says what nobody reads or what cannot be, in any of its tables.

    Raises:
        LiverankError: names the table, the key and what would be right.
    """
    path = folder / CONFIG_FILE
    if path.exists():
        load_settings(path, environ={})


def _noted(data: Any, *others: str) -> dict[str, Any]:
    return {"notes": [*data.notes, *others]}
