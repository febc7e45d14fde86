"""The direction of imports, and what serving must not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: package -> the project's packages that it may import
ALLOWED = {
    "ranker": set(),
    "online_learning": {"ranker"},
    "streams": {"ranker"},
    "liverank": {"ranker", "online_learning", "streams"},
}


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; the packages import by name"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_in_one_direction(package: str) -> None:
    """ranker <- online_learning, ranker <- streams, and liverank on top: any other arrow fails here."""
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        forbidden = (imported(path) & set(ALLOWED)) - ALLOWED[package] - {package}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


def test_torch_stays_in_its_two_files() -> None:
    """Of the core, only the model and its export know torch."""
    knows = {
        path.name for path in (ROOT / "ranker").rglob("*.py") if imported(path) & {"torch", "transformers", "onnx"}
    }
    assert knows == {"transformer.py", "export.py"}


def test_serving_runs_where_torch_cannot_be_imported() -> None:
    """A process in which torch, transformers and onnx cannot be imported still loads everything the worker needs."""
    code = """
import sys
for name in ("torch", "transformers", "onnx", "polars", "ir_measures", "online_learning"):
    sys.modules[name] = None
import streams.worker, streams.assembly, streams.kafka.admin, ranker.serving.model, ranker.registry.encoder
import liverank.cli.main, liverank.offline.rank
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
