"""All on this machine: `up`, `demo` and `broker`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from liverank.cli.options import Json, log_to_stderr
from liverank.terminal import console, report

# Torch and Kafka are imported inside the commands that need them.
# ruff: noqa: PLC0415

BrokerChoice = Annotated[str, typer.Option("--broker", help="A broker's address; kafka: one is started here.")]

WebChoice = Annotated[bool, typer.Option("--web/--no-web", help="Serve the page for people.")]


def demo_command(
    broker: BrokerChoice = "kafka",
    headless: Annotated[bool, typer.Option("--headless", help="No live view.")] = False,
    seconds: Annotated[float, typer.Option(help="How long the users click; 0: until Ctrl-C.", min=0)] = 0,
    users: Annotated[int, typer.Option(help="Simulated users.", min=1)] = 40,
    rate: Annotated[float, typer.Option(help="Events a second, all users together.", min=0.1)] = 40,
    data: Annotated[Path | None, typer.Option(help="MovieLens-100K; else it is fetched.", show_default=False)] = None,
    web: WebChoice = True,
    json: Json = None,
) -> None:
    """The whole loop here: broker, first model, worker, trainer, and people whose lists re-order as they click."""
    from liverank.demo.run import DemoOptions, run_demo

    live = not headless and sys.stdout.isatty()
    result = run_demo(
        DemoOptions(broker=broker, live=live, seconds=seconds, users=users, rate=rate, data=data, web=web), console
    )
    report(result, json)


def up_command(
    folder: Annotated[Path, typer.Argument(help="The folder: liverank.toml, and what it keeps.")] = Path(),
    broker: BrokerChoice = "kafka",
    port: Annotated[
        int | None,
        typer.Option(
            help="Where the broker started here listens; 0: any free port.", show_default="9092", min=0, max=65535
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Log lines instead of a view.")] = False,
    web: WebChoice = True,
) -> None:
    """Run all of it here: broker, topics, worker, trainer, page, each started again where it ends, until Ctrl-C."""
    from liverank.up.run import UpOptions, run_up

    live = not headless and sys.stdout.isatty()
    if not live:
        log_to_stderr()
    run_up(UpOptions(folder=folder, broker=broker, port=port, live=live, web=web), console)


def broker_command(
    port: Annotated[int, typer.Option(help="Where it listens on 127.0.0.1.", min=1, max=65535)] = 9092,
    data: Annotated[Path, typer.Option(help="Its folder, which a later start finds again.")] = Path(".liverank/kafka"),
) -> None:
    """Run an Apache Kafka on this machine, without containers, until Ctrl-C or SIGTERM."""
    from liverank.local.broker import run_in_foreground

    run_in_foreground(data, port)
