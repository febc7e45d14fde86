"""A command that lacks an extra says which."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from liverank.cli.extras import EXTRAS

ROOT = Path(__file__).parents[3]


def declared(extra: str | None) -> set[str]:
    """Distributions that an extra, or the base, asks for on some system."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {Requirement(line).name.lower() for line in lines} - {"liverank"}


def distributions_of(module: str) -> set[str]:
    """What is installed that has a module."""
    return {name.lower().replace("_", "-") for name in packages_distributions().get(module, [])}


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_distribution_of_an_extra_is_known_by_a_module(extra: str) -> None:
    """What `pyproject.toml` declares is what the command line can name, but for the other system's ONNX Runtime."""
    named = {distribution for module in EXTRAS[extra] for distribution in distributions_of(module)}
    assert declared(extra) - {"onnxruntime"} <= named
    assert not declared(None) & named, "what the base brings is no extra"


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["worker"], "faust", "serve"),
        (["topics", "check"], "aiokafka", "serve"),
        (["train", "trivago", "--data", "x"], "torch", "train"),
        (["trainer"], "torch", "train"),
        (["rank", "events.jsonl"], "onnxruntime", "serve"),
        (["demo", "--headless"], "uvloop", "serve"),
        (["gateway"], "starlette", "gateway"),
    ],
)
def test_a_missing_one_is_named(tmp_path: Path, arguments: list[str], missing: str, extra: str) -> None:
    """One line with the module and the extra, without a traceback, and exit 1."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments!r}\n"
    code += "from liverank.cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert f"liverank[{extra}]" in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr
