"""Trainers that end by kill -9 at a named step: one process that has loaded everything forks each of them.

Run as `python -m tests.support.crashing STEP ...` with the settings in the environment. Before each life it waits for a
line on its input; after each it prints the step and how the life ended. The trainer itself is the real one, on a real
broker: all that is added is the moment of its death.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  # which the first optimiser imports: seconds in each life, or once here
from aiokafka import AIOKafkaProducer
from fsspec.implementations.local import LocalFileSystem

from liverank.settings import load_settings
from online_learning.learning.optimisation import Optimisation
from online_learning.releases import pruning, publishing
from online_learning.releases.versions import Versions
from online_learning.trainer import checkpoint, process
from online_learning.trainer.connection import Connection
from online_learning.trainer.releases import Releases
from online_learning.trainer.trainer import Trainer
from streams.kafka.connection import aiokafka

#: Step -> where it is in the code, and at which call of it the process dies; in the order in which they come.
STEPS: dict[str, tuple[Any, str, str, int]] = {
    "in the middle of learning": (Optimisation, "step", "after", 2),
    "a batch is learned": (Trainer, "learn", "after", 2),
    "a delta is made": (AIOKafkaProducer, "send_and_wait model-deltas", "before", 1),
    "a delta is sent": (AIOKafkaProducer, "send_and_wait model-deltas", "after", 1),
    "a draft is taken": (Releases, "draft", "after", 1),
    "half of a checkpoint is written": (checkpoint, "_flush", "before", 1),
    "a checkpoint waits for its name": (checkpoint, "_flush", "after", 3),
    "a checkpoint has its name": (checkpoint, "_flush", "before", 4),
    "the offsets are told": (Connection, "commit", "before", 1),
    "a bundle waits for its name": (LocalFileSystem, "mv", "before", 1),
    "a bundle is in the registry": (publishing, "put_candidate", "after", 1),
    "a bundle is announced": (AIOKafkaProducer, "send_and_wait model-updates", "after", 1),
    "a bundle serves": (Versions, "serve", "after", 1),
    "old bundles are pruned": (pruning, "delete_versions", "after", 1),
}

#: Step -> what is called there. Looked up when tests are collected: a step that the code no longer has fails at once.
_CALLED: dict[str, Callable[..., Any]] = {
    step: getattr(owner, name.partition(" ")[0]) for step, (owner, name, _, _) in STEPS.items()
}


def die() -> None:
    """As a fault would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str) -> None:
    """Have this process die at a step."""
    owner, name, when, count = STEPS[step]
    name, _, topic = name.partition(" ")
    original = _CALLED[step]
    calls = itertools.count(1)

    @wraps(original)
    def dies(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == count
        if last and when == "before":
            die()
        result = original(*args, **kwargs)
        if last and when == "after":
            die()
        return result

    @wraps(original)
    async def dies_at_topic(producer: Any, to: str, *args: Any, **kwargs: Any) -> Any:
        last = to == topic and next(calls) == count
        if last and when == "before":
            die()
        result = await original(producer, to, *args, **kwargs)
        if last and when == "after":
            die()
        return result

    setattr(owner, name, dies_at_topic if topic else dies)


def share_graphs(folder: Path) -> None:
    """Have every life use the graphs that the first one exported: an export takes longer than all the rest."""
    made = Releases.__init__

    @wraps(made)
    def sharing(releases: Releases, *args: Any) -> None:
        made(releases, *args)
        releases._graphs = folder

    Releases.__init__ = sharing  # type: ignore[method-assign]


def main() -> None:
    """One life after another."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = load_settings(None)
    share_graphs(settings.trainer.data.with_name("graphs"))
    for step in sys.argv[1:]:
        sys.stdin.readline()
        child = os.fork()
        if not child:
            if step in STEPS:
                arm(step)
            name = f"{settings.broker.group}-trainer"
            process.run_trainer(settings.trainer, aiokafka(settings.broker), name, lambda *_: None, lambda: None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(step, "killed" if os.WIFSIGNALED(status) else f"ended {os.WEXITSTATUS(status)}", sep="\t", flush=True)


if __name__ == "__main__":
    main()
