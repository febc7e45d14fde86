"""The command line: each command reads its settings, calls one function and prints what it gave."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from liverank.cli.bench import bench_app
from liverank.cli.data import evaluate_command, rank_command, replay_command, train_command
from liverank.cli.extras import missing_extra
from liverank.cli.folder import data_app, init_command
from liverank.cli.keys import keys_app
from liverank.cli.local import broker_command, demo_command, up_command
from liverank.cli.model import model_app
from liverank.cli.operate import config_app, dead_letters_command, explain_command, state_command
from liverank.cli.serve import (
    gateway_command,
    schema_command,
    topics_app,
    trainer_command,
    web_command,
    worker_command,
)
from liverank.terminal import errors, say_error
from ranker.contracts.errors import LiverankError

#: The status of a process that Ctrl-C ended.
INTERRUPTED = 130


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"liverank {version_of('liverank')}")
        raise typer.Exit


app = typer.Typer(
    help="Re-ranks each person's list after every event, with a Transformer that keeps learning from the same stream.",
    epilog="Settings come from liverank.toml and from LIVERANK_ variables; `liverank config show` lists them all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="The release, and nothing else.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    del version  # its callback has told it


def _add(name: str, command: object, example: str) -> None:
    app.command(name, epilog=f"Example:  {example}")(command)  # type: ignore[type-var]


_add("worker", worker_command, "LIVERANK_BROKERS=kafka:9092 LIVERANK_REGISTRY=s3://models liverank worker")
_add("trainer", trainer_command, "LIVERANK_BROKERS=kafka:9092 LIVERANK_REGISTRY=s3://models liverank trainer")
_add("gateway", gateway_command, "LIVERANK_BROKERS=kafka:9092 liverank gateway")
_add("web", web_command, "LIVERANK_BROKERS=kafka:9092 LIVERANK_REGISTRY=registry liverank web")
app.add_typer(topics_app, name="topics")
_add("init", init_command, "liverank init DIR")
app.add_typer(data_app, name="data")
_add("train", train_command, "liverank train DIR --registry registry; liverank train --from-kafka --since 7d")
_add(
    "evaluate",
    evaluate_command,
    "liverank evaluate trivago --data trivago.parquet --train-until 2018-11-08T00:00 "
    "--test-from 2018-11-08T00:00 --test-to 2018-11-08T12:00 --json out.json",
)
_add("replay", replay_command, "liverank replay DIR --pace 10")
_add("rank", rank_command, "liverank rank events.jsonl --registry registry --user u1")
app.add_typer(model_app, name="model")
app.add_typer(keys_app, name="keys")
app.add_typer(config_app, name="config")
_add("dead-letters", dead_letters_command, "liverank dead-letters --newest 5")
_add("state", state_command, "liverank state u1")
_add("explain", explain_command, "liverank explain u1 i9")
_add("schema", schema_command, "liverank schema --out schemas")
_add("up", up_command, "liverank up shop --headless")
_add("demo", demo_command, "liverank demo --headless --seconds 30 --json demo.json")
_add("broker", broker_command, "liverank broker --port 9192 --data DIR")
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Entry point. Whatever a person can put right is one readable line and exit 1, not a traceback; Ctrl-C is 130."""
    try:
        app()
    except LiverankError as error:
        problem = str(error)
    except OSError as error:  # a file or folder that a person named
        problem = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ModuleNotFoundError as error:
        extra = missing_extra(error)
        if extra is None:
            raise
        problem = f"this command needs {error.name}, which is not installed: pip install 'liverank[{extra}]'"
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            errors.print("interrupted")
        raise
    else:
        return
    say_error(problem)
    sys.exit(1)
