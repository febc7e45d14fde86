"""The direction of imports, between packages and between the rooms of one, and what a process must not need."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from liverank.cli.extras import EXTRAS

ROOT = Path(__file__).parents[2]
#: package -> the project's packages that it may import
PACKAGES = {
    "ranker": set(),
    "online_learning": {"ranker"},
    "streams": {"ranker"},
    "liverank": {"ranker", "online_learning", "streams"},
}
#: package -> its rooms and the files beside them, from the ground up: each may import what stands before it
ROOMS = {
    "ranker": (
        "contracts", "mapping", "state", "items", "features", "network", "registry", "rollout", "serving", "starter",
    ),
    "streams": (
        "settings", "telemetry", "kafka", "access", "state", "models", "texts", "pipeline", "app", "assembly", "worker",
    ),
    "online_learning": (
        "progress", "recipe", "online_recipe", "settings", "data", "folder", "evaluation", "counting", "learning",
        "releases", "first_model", "trainer", "simulation",
    ),
    "liverank": (
        "terminal", "gateway_settings", "web_settings", "settings", "client", "serve", "local", "offline", "operate",
        "gateway", "measure", "web", "simulate", "bench", "faults", "demo", "up", "cli", "__main__",
    ),
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions, by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; the packages import by name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(package: str) -> list[Path]:
    """Every module of a package."""
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def room_of(path: Path) -> str:
    """The room that a module is in, or its own name where it stands beside the rooms."""
    inside = path.relative_to(ROOT).parts[1:]
    return inside[0].removesuffix(".py")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package: str) -> None:
    """ranker <- online_learning, ranker <- streams, and liverank on top: any other arrow fails here."""
    for path in files_of(package):
        tops = {name.split(".")[0] for name in imported(path)}
        forbidden = (tops & set(PACKAGES)) - PACKAGES[package] - {package}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_downward(package: str) -> None:
    """Within a package a room imports rooms that stand before it, never one after it, and each room is known."""
    order = {name: place for place, name in enumerate(ROOMS[package])}
    for path in files_of(package):
        room = room_of(path)
        if room == "__init__":
            continue
        assert room in order, f"{path.relative_to(ROOT)} is in no known room; where does {room} stand?"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                assert order[parts[1]] <= order[room], f"{path.relative_to(ROOT)} imports upward: {name}"


def test_the_map_shows_every_room_in_this_order() -> None:
    """docs/architecture.md has each folder of a package, from the ground up as here."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    at = text.index("```\nranker/") + 4
    shown: dict[str, list[str]] = {}
    for line in text[at : text.index("```", at)].splitlines():
        if found := re.match(r"(\w+)/", line):
            here = shown[found[1]] = []
        elif found := re.match(r"  ((?:\w+/ )+)", line):
            here += re.findall(r"\w+", found[1])
    for package, rooms in ROOMS.items():
        assert shown[package] == [room for room in rooms if (ROOT / package / room).is_dir()]


def test_no_room_is_crowded() -> None:
    """A folder holds about a dozen files at most: what grows beyond has two concepts in it."""
    for package in PACKAGES:
        for folder in {path.parent for path in files_of(package)}:
            held = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(held) <= 12, f"{folder.relative_to(ROOT)} holds {len(held)} files"


def test_torch_stays_in_one_room() -> None:
    """Of the core, only the Transformer and its export know torch."""
    heavy = {"torch", "transformers", "onnx"}
    knows = {
        path.relative_to(ROOT).parts[1]
        for path in files_of("ranker")
        if {name.split(".")[0] for name in imported(path)} & heavy
    }
    assert knows == {"network"}


def test_the_core_knows_no_kafka_and_reads_no_clock() -> None:
    """Where a message stands, and what time it is, the core is told; `contracts.clock` is there for who tells it."""
    for path in files_of("ranker"):
        names = imported(path)
        assert not {"aiokafka", "confluent_kafka", "faust"} & {name.split(".")[0] for name in names}, path
        if path.name != "clock.py":
            assert not {name for name in names if name.split(".")[0] == "time"}, path
            assert "ranker.contracts.clock.now_ms" not in names, path
            assert not re.search(r"\b(now|utcnow|today)\(\)", path.read_text(encoding="utf-8")), path


def run_without(modules: set[str] | frozenset[str], code: str) -> None:
    """Run code in a process in which these modules cannot be imported."""
    hidden = f"import sys\nfor name in {sorted(modules)!r}: sys.modules[name] = None\n"
    subprocess.run([sys.executable, "-c", hidden + code], check=True, cwd=ROOT)


def test_serving_runs_where_torch_cannot_be_imported() -> None:
    """A process in which nothing that trains can be imported still loads everything the worker needs."""
    run_without(
        {*EXTRAS["train"], "online_learning"},
        "import streams.worker, streams.assembly, streams.kafka.admin, ranker.serving.model, ranker.registry.encoder",
    )
    run_without(EXTRAS["train"], "import liverank.cli.main, liverank.offline.rank, streams.worker")


def test_the_base_has_records_and_a_command_line() -> None:
    """`pip install liverank` without an extra: contracts, schemas and help, without Faust, ONNX Runtime or torch."""
    run_without(
        frozenset().union(*EXTRAS.values()),
        "import ranker.contracts.documents as documents, ranker.contracts.decoding, ranker.state.codec\n"
        "assert documents.json_schemas()\n"
        "from typer.testing import CliRunner\n"
        "from liverank.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['schema']).exit_code == 0\n",
    )


def test_a_gateway_needs_nothing_that_serves_or_learns() -> None:
    """`pip install 'liverank[gateway]'`: no Faust, no ONNX Runtime, no torch."""
    run_without(
        frozenset().union(*EXTRAS.values()) - EXTRAS["gateway"],
        "import liverank.gateway.process, streams.telemetry.logs\n",
    )


def test_the_base_has_the_client() -> None:
    """An application that sends and reads needs no extra, over Kafka or over a gateway: nothing serves or learns."""
    run_without(
        frozenset().union(*EXTRAS.values()),
        "from liverank.client import AsyncClient, Client, Item, Unavailable\n"
        "for where in (None, 'http://127.0.0.1:1'):\n"
        "    with Client(where, give_up_after_s=0.05) as client:\n"
        "        try:\n"
        "            client.send(Item(item_id='i'))\n"
        "        except Unavailable:\n"
        "            continue\n"
        "        raise AssertionError('nobody is there to take it')\n",
    )
    assert {"faust", "onnxruntime", "torch"} <= frozenset().union(*EXTRAS.values())
