"""What an installation starts from: a model of the folder's files, or the starter with an encoder for items' texts.

Both are commands of `liverank`, each run once as a process of its own: the supervisor itself needs no torch.
"""

from __future__ import annotations

import threading
from pathlib import Path

from rich.console import Console

from liverank.local.processes import Process
from liverank.settings import Settings, environment_of
from liverank.up.places import Places
from online_learning.folder.files import log_files
from online_learning.folder.log import read_log
from ranker.contracts.errors import LiverankError
from ranker.registry.bundle import registry_versions

_LOOK_S = 0.2


def check_files(places: Places, settings: Settings) -> None:
    """Look at the files' columns before anything is started, where a first model is to be trained on them.

    Raises:
        LiverankError: they are none that can be read; what is wrong with them.
    """
    if has_events(places) and needs_model(settings):
        read_log(places.folder)


def needs_model(settings: Settings) -> bool:
    """Whether the registry has no version yet."""
    return not registry_versions(settings.registry.address, settings.registry.model)


def has_events(places: Places) -> bool:
    """Whether the folder has files of events."""
    return not {"interactions", "impressions"}.isdisjoint(log_files(places.folder))


def prepare_registry(places: Places, settings: Settings, console: Console, stop: threading.Event) -> None:
    """Put into a registry without a version what the folder gives: where it has events, a model trained on them; else
    the encoder that the starter reads texts by.

    Raises:
        LiverankError: the files are none that can be learned from; what is wrong with them.
    """
    registry = settings.registry
    if not needs_model(settings):
        return
    if has_events(places):
        console.print(f"a first model is trained on the files of {places.folder}")
        failed = _run(["train", str(places.folder)], "first-model", places, settings, stop)
        if failed is not None:
            raise LiverankError(f"no first model can be trained on {places.folder}: {failed}")
    elif not Path(registry.address, "encoders").exists():
        console.print("the encoder of items' texts is put into the registry")
        failed = _run(["model", "encoder"], "encoder", places, settings, stop)
        if failed is not None:
            console.print(f"texts of items count for nothing yet: {failed}")


def _run(command: list[str], part: str, places: Places, settings: Settings, stop: threading.Event) -> str | None:
    """Run a command to its end; why it failed, None where it did not, or was to stop."""
    # The registry's address may hold a password, and what a command line holds everyone on the machine can read.
    process = Process(command, environment_of(settings, "MODEL", "REGISTRY"), places.of(part))
    while (ended := process.ended()) is None:
        if stop.wait(_LOOK_S):
            process.stop()
            return None
    return None if ended.startswith("status 0") else ended.partition(": ")[2].removeprefix("error: ")
