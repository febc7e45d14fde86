"""Shell scripts that stand for programs."""

from __future__ import annotations

from pathlib import Path


def executable(path: Path, script: str) -> Path:
    """A shell script at a path, which may be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
