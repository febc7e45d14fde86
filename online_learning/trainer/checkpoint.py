"""The trainer's whole state in a folder: arrays as safetensors, remembered examples as msgpack, the rest as JSON. Never
pickle.

    FOLDER/checkpoint-000000000042/state.safetensors, replay.msgpack, state.json

It is written under a temporary name, flushed to disk and renamed; `state.json` holds the hashes of the others. So after
a kill at any moment there is the new one or the one before, and one that is torn or changed is passed over.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from safetensors.numpy import load_file

from online_learning.learning.replay_buffer import Remembered
from ranker.contracts.errors import LiverankError
from ranker.items.arrays import save_arrays
from ranker.registry.address import sha256

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 2
KEPT = 2
_PREFIX = "checkpoint-"
_ARRAYS, _REPLAY, _FACTS = "state.safetensors", "replay.msgpack", "state.json"
_REPLAY_1 = "replay"  # the array that has the remembered examples in format 1


class CheckpointError(LiverankError):
    """A folder that holds no whole checkpoint."""


class TrainerState(Struct, frozen=True, kw_only=True):
    """What a trainer is at one moment, between two batches: the offsets in `facts` are those of exactly this state."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # JSON values
    replay: Sequence[Remembered] = ()  # by far the most of it; entries never change, so nothing is copied


class _Facts(Struct, frozen=True, kw_only=True):
    format: int = CHECKPOINT_FORMAT
    sha256: str  # of the arrays
    replay_sha256: str = ""  # of the remembered examples; none in format 1
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
    _write_replay(state.replay, partial / _REPLAY)
    hashes = sha256(partial / _ARRAYS), sha256(partial / _REPLAY)
    facts = _Facts(sha256=hashes[0], replay_sha256=hashes[1], facts=state.facts)
    (partial / _FACTS).write_bytes(msgspec.json.encode(facts))
    for path in (partial / _ARRAYS, partial / _REPLAY, partial / _FACTS, partial):
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
        if not 1 <= found.format <= CHECKPOINT_FORMAT:
            raise CheckpointError(f"{path} is of format {found.format}; this release reads 1 to {CHECKPOINT_FORMAT}")
        _check(path / _ARRAYS, found.sha256)
        arrays = load_file(path / _ARRAYS)
        if found.format == 1:
            replay = arrays.pop(_REPLAY_1).tobytes()
        else:
            _check(path / _REPLAY, found.replay_sha256)
            replay = (path / _REPLAY).read_bytes()
        return TrainerState(
            arrays=arrays, facts=found.facts, replay=msgspec.msgpack.decode(replay, type=list[Remembered])
        )
    except (OSError, msgspec.DecodeError, ValueError, KeyError) as error:
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


def _write_replay(entries: Sequence[Remembered], path: Path) -> None:
    """One by one: together they are as large as what they are made of."""
    encode = msgspec.msgpack.Encoder().encode
    with path.open("wb") as file:
        file.write(b"\xdd" + len(entries).to_bytes(4, "big"))  # msgpack's array 32
        for entry in entries:
            file.write(encode(entry))


def _check(path: Path, wanted: str) -> None:
    if sha256(path) != wanted:
        raise CheckpointError(f"{path} was cut or changed: its sha256 is not {wanted}")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
