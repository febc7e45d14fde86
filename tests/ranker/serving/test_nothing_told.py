"""Whoever runs this tells nobody else that they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["ranker.serving.scorer", "ranker.registry.encoder", "liverank.cli.main"])
def test_onnx_runtime_keeps_nothing_to_send(module: str, tmp_path: Path) -> None:
    """It would make an id of the machine and a file of events in the home folder, as it does where it may."""
    homes = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for path in homes.values():
        Path(path).mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")} | homes
    loads = f"import {module}, onnxruntime; onnxruntime.get_available_providers()"
    subprocess.run([sys.executable, "-c", loads], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
