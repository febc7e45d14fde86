"""The first model of an installation whose folder holds files: `liverank train`, once, as a process of its own."""

from __future__ import annotations

import threading

from rich.console import Console

from liverank.local.processes import Process
from liverank.settings import Settings, environment_of
from liverank.up.places import Places
from online_learning.folder.files import log_files
from ranker.contracts.errors import LiverankError
from ranker.registry.bundle import registry_versions

_LOOK_S = 0.2


def train_first(places: Places, settings: Settings, console: Console, stop: threading.Event) -> None:
    """Train on the folder's files, where there are events among them and the registry has no version yet.

    Raises:
        LiverankError: the files are none that can be learned from; what is wrong with them.
    """
    registry = settings.registry
    events = {"interactions", "impressions"} & set(log_files(places.folder))
    if not events or registry_versions(registry.address, registry.model):
        return
    console.print(f"a first model is trained on the files of {places.folder}", highlight=False)
    command = ["train", str(places.folder), "--out", registry.address]
    training = Process(command, environment_of(settings, "MODEL"), places.of("first-model"))
    while (ended := training.ended()) is None:
        if stop.wait(_LOOK_S):
            training.stop()
            return
    if not ended.startswith("status 0"):
        raise LiverankError(f"no first model can be trained on {places.folder}: {ended.partition(': ')[2]}")
    console.print("the first model is in the registry", highlight=False)
