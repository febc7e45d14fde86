"""How a registry is reached: a folder, or any fsspec address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.contracts.errors import BundleError, LiverankError
from ranker.registry.settings import shown_address

if TYPE_CHECKING:
    import fsspec  # settings are read, and addresses shown, where it is not installed

#: Most bytes of a file that is read whole: a manifest, an encoder's description.
READ_AT_MOST = 4 << 20
_AT_ONCE = 1 << 20


@contextmanager
def reaching(problem: str) -> Iterator[None]:
    """Make whatever goes wrong within the block one error.

    Backends of fsspec raise OSErrors, and the errors of whatever client they are built on: none of those may end a
    process that can do without the registry for a while.

    Args:
        problem: what then cannot be done.

    Raises:
        BundleError: with the reason "missing"; an error of ours that is raised within stays what it is.
    """
    try:
        yield
    except LiverankError:
        raise
    except Exception as error:
        raise BundleError(f"{problem}: {shown_address(str(error) or repr(error))}", "missing") from error


def listed(fs: fsspec.AbstractFileSystem, folder: str) -> set[str]:
    """Names in a folder of a registry; none where there is no such folder.

    `fs.exists` is no way to ask: it takes every error for a no, and a whole bundle for a half-written one.
    """
    try:
        return {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(folder, detail=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def read_small(fs: fsspec.AbstractFileSystem, path: str) -> bytes:
    """A file of a registry that is read whole.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it is larger than any such file.
    """
    with fs.open(path, "rb") as file:
        content: bytes = file.read(READ_AT_MOST + 1)
    if len(content) > READ_AT_MOST:
        raise BundleError(
            f"{shown_address(path)} is larger than {READ_AT_MOST >> 20} MiB, as no such file is", "too-large"
        )
    return content


def read_signature(fs: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    """What lies beside a file as its signature; None where nothing does."""
    try:
        return read_small(fs, path)
    except FileNotFoundError:
        return None


def fetch_file(fs: fsspec.AbstractFileSystem, path: str, into: Path, most: int) -> int:
    """Copy a file out of a registry, and no more of it than there may be; its bytes.

    Raises:
        BundleError: it is larger.
    """
    copied = 0
    with fs.open(path, "rb") as source, into.open("wb") as target:
        while piece := source.read(_AT_ONCE):
            copied += len(piece)
            if copied > most:
                raise BundleError(
                    f"{shown_address(path)} and what was fetched before it are larger than max_bundle_mb allows",
                    "too-large",
                )
            target.write(piece)
    return copied


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
