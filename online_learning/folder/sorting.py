"""More than fits into memory, in order: sorted runs on disk, merged as they are read."""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

RUN_BYTES = 128 << 20  # of one run, before it goes to disk
_OVERHEAD = 300  # bytes of a pair in memory beside its body, about
_LENGTH = struct.Struct("<I")


class Keyed(NamedTuple):
    """Something by which it sorts: keys are tuples of one shape, no two alike."""

    key: tuple[Any, ...]
    body: bytes


def merge_sorted(pairs: Iterable[Keyed], run_bytes: int = RUN_BYTES) -> Iterator[Keyed]:
    """The pairs by their keys. What exceeds `run_bytes` lies in a temporary folder for as long as it is read."""
    run: list[Keyed] = []
    held = 0
    with tempfile.TemporaryDirectory(prefix="liverank-sorted-") as folder:
        paths: list[Path] = []
        for pair in pairs:
            run.append(pair)
            held += len(pair.body) + _OVERHEAD
            if held >= run_bytes:
                paths.append(_write(sorted(run), Path(folder) / str(len(paths))))
                run, held = [], 0
        run.sort()
        yield from heapq.merge(*map(_read, paths), run) if paths else run


def _write(run: list[Keyed], path: Path) -> Path:
    encode = msgspec.msgpack.encode
    with path.open("wb") as file:
        for pair in run:
            packed = encode(pair)
            file.write(_LENGTH.pack(len(packed)) + packed)
    return path


def _read(path: Path) -> Iterator[Keyed]:
    decode = msgspec.msgpack.Decoder(tuple[tuple[Any, ...], bytes]).decode
    with path.open("rb") as file:
        while prefix := file.read(_LENGTH.size):
            yield Keyed(*decode(file.read(_LENGTH.unpack(prefix)[0])))
