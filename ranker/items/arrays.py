"""Arrays as a file of safetensors."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays by name.

    Args:
        arrays: each is written as it lies row by row.
        path: of the file.

    Raises:
        OSError: it cannot be written, on a full disk for instance.
    """
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:  # which is none of the system's, whatever the cause
        raise OSError(errno.EIO, str(error), str(path)) from error
