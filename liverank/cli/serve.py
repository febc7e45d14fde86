"""The processes and what they talk over: `worker`, `trainer`, `topics`, `schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from liverank.cli.options import Config, log_to_stderr, settings_from
from liverank.terminal import console, errors

# Torch, Faust and Kafka are imported inside the commands that need them: serving has no torch, and --help is quick.
# ruff: noqa: PLC0415

topics_app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)


def worker_command(config: Config = None) -> None:
    """Serve: consume events and candidate lists, keep every user's state, send rankings. Stops on SIGTERM."""
    from streams.worker import run_worker

    log_to_stderr()
    run_worker(settings_from(config).worker)


def trainer_command(config: Config = None) -> None:
    """Learn: consume examples, send changed item rows and new bundles. Stops on SIGTERM."""
    from online_learning.trainer.process import run_trainer
    from streams.kafka.connection import aiokafka
    from streams.telemetry.logs import quieten

    log_to_stderr()
    quieten()
    settings = settings_from(config)
    run_trainer(settings.trainer, aiokafka(settings.broker), f"{settings.broker.app}-trainer")


@topics_app.command("create", epilog="Example:  liverank topics create")
def topics_create(config: Config = None) -> None:
    """Create every topic that is missing, with its partitions and clean-up policy."""
    from streams.kafka.admin import create_topics

    for line in create_topics(settings_from(config).broker):
        console.print(line, highlight=False)


@topics_app.command("check", epilog="Example:  liverank topics check")
def topics_check(config: Config = None) -> None:
    """Say what is wrong with the topics; exits 1 where something is."""
    from streams.kafka.admin import check_topics

    problems = check_topics(settings_from(config).broker)
    for line in problems:
        errors.print(line, highlight=False)
    if problems:
        raise typer.Exit(1)
    console.print("all topics are as they should be")


def schema_command(
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
