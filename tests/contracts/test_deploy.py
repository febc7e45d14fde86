"""The files of `deploy/` and docker-compose.yml, which no test here can run: what they name exists, and fits."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from liverank.cli.main import app
from liverank.settings import PREFIX, SECRETS, VARIABLES

ROOT = Path(__file__).parents[2]
_yaml = import_module("yaml")  # without types; what PyTorch's libraries bring
#: Whose folder is a worker's or a trainer's own, and which topics must be there before.
NEED_TOPICS = ("worker", "trainer", "gateway")


def services() -> dict[str, Any]:
    """Those of docker-compose.yml, by name."""
    found: dict[str, Any] = _yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return found


def manifests() -> dict[str, Any]:
    """Those of Kubernetes, by kind."""
    text = (ROOT / "deploy/kubernetes/worker.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in _yaml.safe_load_all(text)}


def containers() -> Iterator[dict[str, Any]]:
    """Of the jobs and sets of Kubernetes."""
    for one in manifests().values():
        if one["kind"] in ("Job", "StatefulSet"):
            yield from one["spec"]["template"]["spec"]["containers"]


def test_every_variable_is_one_that_somebody_reads() -> None:
    """Of all that begin as ours do."""
    named = {name for one in services().values() for name in one.get("environment", {})}
    named |= {given["name"] for one in containers() for given in one["env"]}
    ours = {name.removeprefix(PREFIX) for name in named if name.startswith(PREFIX)}
    assert ours and ours <= {*VARIABLES.values(), *SECRETS}


def test_every_command_is_one() -> None:
    """`liverank` has it, with the part of it that is named."""
    commands = [one["command"] for name, one in services().items() if name not in ("kafka", "prometheus")]
    commands += [one["args"] for one in containers()]
    for command in commands:
        found: Any = get_command(app)
        for part in command:
            if not isinstance(found, typer.core.TyperGroup):
                break
            assert part in found.commands, command
            found = found.commands[part]


def test_somebody_makes_the_topics_first() -> None:
    """No process starts without them, and none makes them itself: Compose waits for it, Kubernetes has a job."""
    assert services()["topics"]["command"] == ["topics", "create"]
    for name in NEED_TOPICS:
        assert services()[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    (job,) = manifests()["Job"]["spec"]["template"]["spec"]["containers"]
    assert job["args"] == ["topics", "create"]


def test_each_worker_has_a_folder_of_its_own() -> None:
    """Of two that share a volume the second ends: with `--scale worker=2` no name may stand before the folder."""
    (own,) = [volume for volume in services()["worker"]["volumes"] if volume.endswith("/data")]
    assert own == "/data"
    (claim,) = manifests()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
