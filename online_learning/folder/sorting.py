"""More than fits into memory, in order: sorted runs on disk, merged as they are read."""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, Any, NamedTuple

import msgspec

from online_learning.data.on_disk import TemporaryFileError

RUN_BYTES = 128 << 20  # of one run, before it goes to disk
_OVERHEAD = 300  # bytes of a pair in memory beside its body, about
_LENGTH = struct.Struct("<I")


class Keyed(NamedTuple):
    """Something by which it sorts: keys are tuples of one shape, no two alike."""

    key: tuple[Any, ...]
    body: bytes


def merge_sorted(pairs: Iterable[Keyed], run_bytes: int = RUN_BYTES) -> Iterator[Keyed]:
    """The pairs by their keys. What exceeds `run_bytes` lies in temporary files for as long as it is read.

    Raises:
        TemporaryFileError: there is no room for them.
    """
    run: list[Keyed] = []
    held = 0
    with ExitStack() as opened:
        files: list[IO[bytes]] = []
        for pair in pairs:
            run.append(pair)
            held += len(pair.body) + _OVERHEAD
            if held >= run_bytes:
                run.sort()
                files.append(opened.enter_context(tempfile.TemporaryFile(prefix="liverank-sorted-")))
                _write(run, files[-1])
                run, held = [], 0
        run.sort()
        yield from heapq.merge(*map(_read, files), run) if files else run


def _write(run: list[Keyed], file: IO[bytes]) -> None:
    encode = msgspec.msgpack.encode
    try:
        for pair in run:
            packed = encode(pair)
            file.write(_LENGTH.pack(len(packed)) + packed)
        file.seek(0)
    except OSError as error:
        raise TemporaryFileError(error) from error


def _read(file: IO[bytes]) -> Iterator[Keyed]:
    decode = msgspec.msgpack.Decoder(tuple[tuple[Any, ...], bytes]).decode
    while prefix := file.read(_LENGTH.size):
        yield Keyed(*decode(file.read(_LENGTH.unpack(prefix)[0])))
