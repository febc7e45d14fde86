"""How a registry is reached: a folder, or any fsspec address."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.contracts.errors import BundleError

if TYPE_CHECKING:
    import fsspec  # settings are read, and addresses shown, where it is not installed


def shown_address(registry: str) -> str:
    """A registry's address as it may be logged: without the user and password that some addresses hold."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", registry)


@contextmanager
def reaching(problem: str) -> Iterator[None]:
    """Make whatever goes wrong within the block one error.

    Backends of fsspec raise OSErrors, and the errors of whatever client they are built on: none of those may end a
    process that can do without the registry for a while.

    Args:
        problem: what then cannot be done.

    Raises:
        BundleError: with the reason "missing"; one raised within keeps its own.
    """
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{problem}: {error or repr(error)}", "missing") from error


def listed(fs: fsspec.AbstractFileSystem, folder: str) -> set[str]:
    """Names in a folder of a registry; none where there is no such folder.

    `fs.exists` is no way to ask: it takes every error for a no, and a whole bundle for a half-written one.
    """
    try:
        return {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(folder, detail=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
