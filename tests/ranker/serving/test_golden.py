"""`golden.npz` is read in no more memory than it has bytes."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ranker.contracts.errors import BundleError
from ranker.serving.golden import read_golden


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    """Every kind of array that a bundle has, and one by columns."""
    written = {
        "extend/in/a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "score/in/b": np.arange(4, dtype=np.int64),
        "score/out/c": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "score/in/none": np.zeros((0, 4), np.float32),
        "score/in/one": np.float32(3),
    }
    np.savez(tmp_path / "golden.npz", **written)
    found = read_golden(tmp_path / "golden.npz")
    assert set(found) == set(written)
    for name, array in written.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_larger_inside_than_outside_is_refused(tmp_path: Path) -> None:
    """Compressed zeros; a header that claims a terabyte; pickled objects; more members than any bundle has."""
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10_000_000, np.uint8))
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)})
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as file:
        file.writestr("a.npy", header.getvalue())
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as file:
        for number in range(300):
            file.writestr(f"{number}.npy", b"")
    (tmp_path / "none.npz").write_bytes(b"PK")
    for name in ("bomb", "claims", "pickled", "many", "none"):
        with pytest.raises(BundleError, match=f"{name}.npz cannot be read"):
            read_golden(tmp_path / f"{name}.npz")
