"""`liverank keys`: whose bundles are served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from liverank.terminal import console

# ruff: noqa: PLC0415

keys_app = typer.Typer(help="Keys that bundles are signed with.", no_args_is_help=True)


@keys_app.command("new", epilog="Example:  liverank keys new --out trainer.key --name trainer")
def keys_new(
    out: Annotated[Path, typer.Option("--out", help="The file for the private key, which only its owner may read.")],
    name: Annotated[str, typer.Option(help="What the signer is called.")] = "trainer",
) -> None:
    """Make a key pair: the private key into a file, the public one, as a line of settings, onto the terminal."""
    from ranker.registry.signatures import new_key_pair

    private, public = new_key_pair()
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(private + "\n")
    console.print(f"the private key is in {out}: LIVERANK_SIGNING_KEY=$(cat {out}) for who publishes", highlight=False)
    console.print("the public key, for everyone who uses what is published:", highlight=False)
    print(f"LIVERANK_PUBLIC_KEYS={name}={public}")
