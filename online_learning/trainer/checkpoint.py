"""The trainer's whole state in a folder: arrays as safetensors, the rest as JSON. Never pickle.

    FOLDER/checkpoint-000000000042/state.safetensors, state.json

It is written under a temporary name, flushed to disk and renamed; `state.json` holds the hash of the arrays. So after a
kill at any moment there is the new one or the one before, and one that is torn or changed is passed over.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from safetensors.numpy import load_file

from ranker.contracts.errors import LiverankError
from ranker.items.arrays import save_arrays
from ranker.registry.address import sha256

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
KEPT = 2
_PREFIX = "checkpoint-"
_ARRAYS, _FACTS = "state.safetensors", "state.json"


class CheckpointError(LiverankError):
    """A folder that holds no whole checkpoint."""


class TrainerState(Struct, frozen=True, kw_only=True):
    """What a trainer is at one moment, between two batches: the offsets in `facts` are those of exactly this state."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # JSON values


class _Facts(Struct, frozen=True, kw_only=True):
    format: int = CHECKPOINT_FORMAT
    sha256: str
    facts: dict[str, Any]


def save_checkpoint(folder: Path, number: int, state: TrainerState) -> Path:
    """Write a checkpoint and drop all but the newest two.

    Args:
        folder: of all checkpoints of one trainer.
        number: higher than that of any before it.
        state: what to keep.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PREFIX}{number:012d}"
    partial = folder / f".{final.name}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_arrays(state.arrays, partial / _ARRAYS)
    facts = _Facts(sha256=sha256(partial / _ARRAYS), facts=state.facts)
    (partial / _FACTS).write_bytes(msgspec.json.encode(facts))
    for path in (partial / _ARRAYS, partial / _FACTS, partial):
        _flush(path)
    if final.exists():  # a number comes again only where its first holder was torn
        shutil.rmtree(final)
    partial.rename(final)
    _flush(folder)
    for old in _folders(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(path: Path) -> TrainerState:
    """Read one checkpoint.

    Raises:
        CheckpointError: it is torn, was changed, or is of a format that this release does not read.
    """
    try:
        found = msgspec.json.decode((path / _FACTS).read_bytes(), type=_Facts)
        if found.format != CHECKPOINT_FORMAT:
            raise CheckpointError(f"{path} is of format {found.format}; this release reads {CHECKPOINT_FORMAT}")
        if sha256(path / _ARRAYS) != found.sha256:
            raise CheckpointError(f"{path / _ARRAYS} was cut or changed: its sha256 is not {found.sha256}")
        return TrainerState(arrays=load_file(path / _ARRAYS), facts=found.facts)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from error


def newest_checkpoint(folder: Path) -> TrainerState | None:
    """The newest whole checkpoint; None where there is none. What is torn is named on the log and passed over."""
    for path in reversed(_folders(folder)):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; the one before it is used", error)
    return None


def next_number(folder: Path) -> int:
    """A number higher than that of any checkpoint there, torn ones too."""
    return max((int(path.name.removeprefix(_PREFIX)) for path in _folders(folder)), default=0) + 1


def _folders(folder: Path) -> list[Path]:
    """Oldest first."""
    found = folder.glob(f"{_PREFIX}*") if folder.exists() else ()
    return sorted(path for path in found if path.name.removeprefix(_PREFIX).isdigit())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
