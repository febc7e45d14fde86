"""Looking into what runs: `config show`, `dead-letters`, `state`, `explain`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from liverank.cli.options import Config, Json, config_file, settings_from
from liverank.settings import setting_sources
from liverank.terminal import report

# Kafka is imported inside the commands that need it.
# ruff: noqa: PLC0415

config_app = typer.Typer(help="The settings of liverank.toml and of the environment.", no_args_is_help=True)


@config_app.command("show", epilog="Example:  liverank config show --config liverank.toml")
def config_show(config: Config = None, json: Json = None) -> None:
    """Each setting, its variable, its value, and where that comes from; of a secret only whether it is set."""
    found = setting_sources(config_file(config))
    table = Table("setting", "variable", "value", "from")
    for line in found:
        source = "the environment" if line.source == line.variable else line.source
        table.add_row(f"[{line.group}] {line.key}", line.variable, line.value, source)
    report({"settings": msgspec.to_builtins(found)}, json, table)


def dead_letters_command(
    newest: Annotated[int, typer.Option(help="How many, the newest ones.", min=1)] = 20,
    config: Config = None,
    json: Json = None,
) -> None:
    """The newest inputs that were refused, and why."""
    from liverank.operate.look import newest_dead_letters

    letters = newest_dead_letters(settings_from(config), newest)
    table = Table("sent", "where", "reason", "error")
    for letter in letters:
        where = f"{letter['topic']}-{letter['partition']}:{letter['offset']}"
        table.add_row(letter["sent"], where, letter["reason"], letter["error"])
    report({"dead_letters": letters}, json, table)


def state_command(
    user: Annotated[str, typer.Argument(help="The user's id.")], config: Config = None, json: Json = None
) -> None:
    """What a running system knows of a user: the row, as the changelog has it."""
    from liverank.operate.look import state_of

    report(state_of(settings_from(config), user), json)


def explain_command(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    items: Annotated[
        list[str] | None, typer.Argument(help="Items of the list; its first ones where none is named.")
    ] = None,
    request: Annotated[
        str | None, typer.Option(help="The list's request_id; the user's newest list by default.")
    ] = None,
    most: Annotated[int, typer.Option(help="So many items, where none is named.", min=1)] = 3,
    reasons: Annotated[int, typer.Option(help="So many reasons of each item; --json has all.", min=1)] = 5,
    config: Config = None,
    json: Json = None,
) -> None:
    """Why a user's list is ranked as it is: what each event, feature and attribute is worth to an item's score."""
    from liverank.operate.explain import explained, in_words

    found = explained(settings_from(config), user, items or [], request, most)
    report(msgspec.to_builtins(found, str_keys=True), json, in_words(found, reasons))
