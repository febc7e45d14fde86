"""A disk that can be full: a small file system in memory, where this process may mount one (root on Linux)."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SIZE_MB, _BLOCK = 96, 1 << 20


class SmallDisk:
    """A file system of its own at a folder."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: where; made where it is missing.
        """
        self._folder, self._filler = folder, folder / "filler"

    def mount(self) -> bool:
        """Whether it is there now; False where this process may not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(self._folder))

    def unmount(self) -> None:
        """Take it away."""
        self._run("umount", "--lazy", str(self._folder))

    def fill(self) -> None:
        """Leave no room on it."""
        with self._filler.open("wb", buffering=0) as filler:
            size = _BLOCK
            while size:
                try:
                    while filler.write(bytes(size)) == size:
                        pass
                except OSError:  # no space left on device
                    pass
                size //= 2

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def _run(self, *argv: str) -> bool:
        try:
            return subprocess.run(argv, capture_output=True, check=False, timeout=30).returncode == 0
        except OSError:
            return False
