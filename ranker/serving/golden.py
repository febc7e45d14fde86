"""Golden outputs: that a bundle's graphs give here what torch gave where they were made.

`golden.npz` is read without trusting it: a compressed member, or an array that says it is larger than its bytes, would
take memory that the file's size does not show.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ranker.contracts.bundle_files import GOLDEN
from ranker.contracts.errors import BundleError
from ranker.serving.scorer import Graphs

TOLERANCE = 1e-4  # between torch's outputs and the graphs', absolute and relative
_MEMBERS = 256  # of both graphs together there are some forty inputs and outputs
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_golden(folder: Path, graphs: Graphs) -> None:
    """Run the golden inputs through a folder's graphs and compare with what torch gave.

    Raises:
        BundleError: an output is not finite or is off by more than the tolerance.
    """
    arrays = read_golden(folder / GOLDEN)
    for graph, session in graphs._asdict().items():
        for name, output in _outputs(folder / f"{graph}.onnx", graph, session, arrays).items():
            expected = arrays.get(f"{graph}/out/{name}")
            if not np.isfinite(output).all():
                raise BundleError(f"{folder / graph}.onnx gives numbers that are not finite", "not-finite")
            if expected is None or not _close(output, expected):
                raise BundleError(
                    f"{folder / graph}.onnx: {name} is not what torch gave on the golden inputs", "golden"
                )


def _close(output: np.ndarray, expected: np.ndarray) -> bool:
    return output.shape == expected.shape and np.allclose(output, expected, rtol=TOLERANCE, atol=TOLERANCE)


def read_golden(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name, in no more memory than the file has bytes.

    Raises:
        BundleError: it is no file of plain, uncompressed arrays.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if len(members) > _MEMBERS or sum(one.file_size for one in members) > path.stat().st_size:
                raise ValueError("it would be larger in memory than it is here")
            return {member.filename.removesuffix(".npy"): _array(file, member) for member in members}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    stream = BytesIO(file.read(member))
    version = np.lib.format.read_magic(stream)
    shape, columns, kind = _HEADERS[version](stream)
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(stream.getbuffer()) - stream.tell():
        raise ValueError(f"{member.filename} has not as many numbers as it says")
    array = np.frombuffer(stream.getbuffer()[stream.tell() :], kind)
    return array.reshape(shape, order="F" if columns else "C")


def _outputs(path: Path, graph: str, session: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, {given.name: arrays[f"{graph}/in/{given.name}"] for given in session.get_inputs()})
        return dict(zip(names, outputs, strict=True))
    except Exception as error:
        raise BundleError(f"{path} does not run: {error}") from error
