"""The processes and what they talk over: `worker`, `trainer`, `gateway`, `web`, `topics`, `schema`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from liverank.cli.options import Config, Json, log_to_stderr, settings_from
from liverank.terminal import errors, report, say

# Torch, Faust and Kafka are imported inside the commands that need them: serving has no torch, and --help is quick.
# ruff: noqa: PLC0415

topics_app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)


_ANOTHER = "another {0} needs a folder and a port of its own, by {1}DATA and {1}METRICS_PORT"


def worker_command(config: Config = None) -> None:
    """Serve: consume events and candidate lists, keep every user's state, send rankings. Stops on SIGTERM."""
    from liverank.serve.heap import SERVER_S, give_back_always, settle_heap
    from liverank.serve.own_folder import held
    from liverank.serve.page import open_page
    from liverank.serve.readiness import not_ready
    from streams.worker import run_worker

    settle_heap()
    give_back_always(SERVER_S)
    log_to_stderr()
    settings, another = settings_from(config).worker, _ANOTHER.format("worker", "LIVERANK_")
    with held(settings.data, f"{settings.data} is in use by the process {{holder}}: {another}"):
        not_ready(settings.ready_file)
        run_worker(settings, open_page(settings.metrics_host, settings.metrics_port, another))


def trainer_command(config: Config = None) -> None:
    """Learn: consume examples, send changed item rows and new bundles. Stops on SIGTERM."""
    from liverank.serve.heap import MAKER_S, give_back_always, settle_heap
    from liverank.serve.own_folder import held
    from liverank.serve.page import open_page
    from liverank.serve.readiness import not_ready
    from online_learning.trainer.process import run_trainer
    from streams.access.rights import TRAINER, check_access, rights_of
    from streams.kafka.admin import check_there
    from streams.kafka.connection import aiokafka
    from streams.telemetry.logs import quieten

    settle_heap()
    give_back_always(MAKER_S)
    log_to_stderr()
    quieten()
    settings = settings_from(config)
    broker, own, another = settings.broker, settings.trainer, _ANOTHER.format("trainer", "LIVERANK_TRAINER_")
    taken = f"{own.data} is in use by the process {{holder}}: {another}"

    def allowed() -> None:
        check_access(broker, TRAINER, own.registry.model)
        check_there(broker, rights_of(TRAINER, broker, own.registry.model).topics)

    first = not int(os.environ.get("RANK", "0"))  # of several that torchrun starts: it alone has a folder and a page
    with held(own.data, taken) if first else nullcontext():
        not_ready(own.ready_file if first else None)
        page = open_page(own.metrics_host, own.metrics_port, another)
        run_trainer(own, aiokafka(broker), f"{broker.group}-trainer", page, allowed)


def gateway_command(config: Config = None) -> None:
    """Let applications ask over HTTP: events and lists in, rankings out. Stops on SIGTERM."""
    from liverank.gateway.process import run_gateway
    from liverank.serve.readiness import not_ready
    from streams.telemetry.logs import quieten

    log_to_stderr()
    quieten()
    settings = settings_from(config)
    not_ready(settings.gateway.ready_file)
    run_gateway(settings)


def web_command(config: Config = None) -> None:
    """A page for people: lists that re-order as they click, and how the system does. Stops on SIGTERM."""
    from liverank.serve.readiness import not_ready
    from liverank.web.process import run_web
    from streams.telemetry.logs import quieten

    log_to_stderr()
    quieten()
    settings = settings_from(config)
    not_ready(settings.web.ready_file)
    run_web(settings)


@topics_app.command("create", epilog="Example:  liverank topics create --replication-factor 3")
def topics_create(
    replication_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Brokers that hold each new topic (with 3, min.insync.replicas is 2); else `replication` of the "
            "settings, else 3 where there are as many brokers, else 1.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Create each topic that is missing, with its partitions and clean-up policy, but none that liverank.toml names."""
    from streams.access.preflight import check_reached
    from streams.kafka.admin import create_topics

    broker = settings_from(config).broker
    check_reached(broker)
    created = create_topics(broker, replication_factor)
    report({"created": created}, json, "\n".join(created) or "all topics are there")


@topics_app.command("check", epilog="Example:  liverank topics check")
def topics_check(
    sample: Annotated[int, typer.Option(min=0, help="Newest records of each input topic that are decoded.")] = 200,
    config: Config = None,
    json: Json = None,
) -> None:
    """Say what is wrong with the topics, and which of their newest records do not fit; exits 1 on errors."""
    from liverank.operate.sampling import sampled
    from streams.access.preflight import check_reached
    from streams.kafka.checks import examine

    settings = settings_from(config)
    check_reached(settings.broker)
    found = examine(settings.broker)
    if not any(finding.error for finding in found):
        found += sampled(settings, sample)
    told: dict[str, list[str]] = {"error": [], "warning": []}
    for finding in found:
        kind = "error" if finding.error else "warning"
        told[kind].append(finding.text)
        errors.print(f"{kind}: {finding.text}", soft_wrap=True)
    well = "" if found else "all topics are as they should be"
    report({"errors": told["error"], "warnings": told["warning"]}, json, well)
    if told["error"]:
        raise typer.Exit(1)


@topics_app.command("acls", epilog="Example:  liverank topics acls --worker 'User:CN=worker'")
def topics_acls(
    worker: Annotated[str, typer.Option(help="The workers' user, as Kafka names it.")] = "User:worker",
    trainer: Annotated[str, typer.Option(help="The trainer's.")] = "User:trainer",
    application: Annotated[str, typer.Option(help="Of what sends events and reads rankings.")] = "User:application",
    operator: Annotated[str, typer.Option(help="Of who calls liverank's commands.")] = "User:operator",
    web: Annotated[str, typer.Option(help="Of the page for people.")] = "User:web",
    config: Config = None,
) -> None:
    """Print the calls of kafka-acls.sh that give each role the rights it needs, and no others."""
    from streams.access.rights import ROLES, acl_commands

    principals = dict(zip(ROLES, (worker, trainer, application, operator, web), strict=True))
    settings = settings_from(config)
    for line in acl_commands(settings.broker, principals, settings.registry.model):
        print(line)


@topics_app.command("pseudonymise", epilog="Example:  liverank topics pseudonymise")
def topics_pseudonymise(config: Config = None, json: Json = None) -> None:
    """Store users' rows under LIVERANK_PSEUDONYM_KEY instead of under their ids, once, while no worker runs."""
    from liverank.operate.pseudonymise import pseudonymise
    from streams.access.preflight import check_reached

    broker = settings_from(config).broker
    check_reached(broker)
    copied = pseudonymise(broker)
    told = f"{copied} records are in {broker.changelog}; now delete the workers' data folders, which hold ids"
    report({"copied": copied, "changelog": broker.changelog}, json, told)


def schema_command(
    out: Annotated[Path | None, typer.Option(help="Write a file a record, and asyncapi.json, here.")] = None,
    config: Config = None,
) -> None:
    """The contracts: a JSON Schema for every record, and an AsyncAPI document with the topics' names on the broker."""
    from importlib.metadata import version

    from ranker.contracts.documents import asyncapi, json_schemas

    topics = settings_from(config).topics
    document = asyncapi(version("liverank"), topics.called, msgspec.to_builtins(topics.fields))
    documents: dict[str, Any] = {**json_schemas(), "asyncapi": document}
    if out is None:
        print(msgspec.json.format(msgspec.json.encode(documents), indent=2).decode())
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        path = out / (f"{name}.json" if name == "asyncapi" else f"{name}.schema.json")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    say(f"{len(documents)} documents are in {out}")
