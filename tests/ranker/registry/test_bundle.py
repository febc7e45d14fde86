"""A bundle that is not exactly what was published never loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import fsspec
import msgspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.errors import BundleError
from ranker.items.catalog import Catalog
from ranker.registry import bundle
from ranker.registry.bundle import (
    Manifest,
    fetch_bundle,
    new_version,
    newest_version,
    publish_bundle,
    read_manifest,
    registry_versions,
)
from ranker.registry.settings import RegistrySettings, shown_address
from ranker.serving.model import load_model
from ranker.serving.options import ServingOptions
from tests.support.tiny import tiny_bundle


def at(address: Path | str, **more: object) -> RegistrySettings:
    """A registry's settings."""
    return RegistrySettings(address=str(address), **more)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("registry")
    tiny_bundle(home)
    return home


@pytest.fixture
def folder(registry: Path, tmp_path: Path) -> Path:
    version = newest_version(str(registry), "default")
    assert version is not None
    return fetch_bundle(at(registry), version, tmp_path)


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changes)))


def truncate(folder: Path) -> None:
    path = folder / "score.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def tamper(folder: Path) -> None:
    path = folder / "tables.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))


def remove(folder: Path) -> None:
    (folder / "extend.onnx").unlink()


def rename_schema(folder: Path) -> None:
    edit_manifest(folder, schema_hash="0" * 16)


def other_features(folder: Path) -> None:
    edit_manifest(folder, features=("a",))


def other_format(folder: Path) -> None:
    edit_manifest(folder, format=99)


def escape(folder: Path) -> None:
    edit_manifest(folder, files={"../../etc/passwd": "0"})


def wrong_golden(folder: Path) -> None:
    with np.load(folder / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["score/out/logits"] = arrays["score/out/logits"] + 0.01
    np.savez(folder / "golden.npz", **arrays)
    files = read_manifest(folder).files
    edit_manifest(folder, files={**files, "golden.npz": bundle.sha256(folder / "golden.npz")})


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (truncate, "score.onnx was changed"),
        (tamper, "tables.safetensors was changed"),
        (remove, "extend.onnx is missing"),
        (rename_schema, "schema's hash"),
        (other_features, "features are not"),
        (other_format, "format 99"),
        (escape, "beside its manifest"),
        (wrong_golden, "logits is not what torch gave"),
    ],
)
def test_a_harmed_bundle_does_not_load(folder: Path, harm: Callable[[Path], None], says: str) -> None:
    """Truncated, tampered, incomplete, of another schema or format, or numerically off: refused, with the reason."""
    harm(folder)
    with pytest.raises(BundleError, match=says):
        load_model(folder, Catalog(), ServingOptions())


def test_a_bundle_that_was_announced_with_another_hash_is_refused(registry: Path, tmp_path: Path) -> None:
    """The manifest's own hash travels with the announcement: a replaced bundle is found out."""
    version = newest_version(str(registry), "default")
    assert version is not None
    with pytest.raises(BundleError, match="not the announced one"):
        fetch_bundle(at(registry), version, tmp_path, manifest_sha256="0" * 64)
    assert not list(tmp_path.glob("*"))


def test_a_missing_bundle_is_a_clear_error(registry: Path, tmp_path: Path) -> None:
    """A version that the registry does not have names both."""
    with pytest.raises(BundleError, match="nope cannot be fetched from"):
        fetch_bundle(at(registry), "nope", tmp_path)


def test_a_half_written_bundle_is_none(registry: Path) -> None:
    """A folder without a manifest is not offered as the newest."""
    before = newest_version(str(registry), "default")
    (registry / "default" / "99999999T999999999-ffffff").mkdir()
    assert newest_version(str(registry), "default") == before


class Watched(MemoryFileSystem):
    """A registry without renames, that looks at itself after every file that comes to be."""

    protocol = "watched"
    seen: ClassVar[list[set[str]]] = []

    def cp_file(self, path1: str, path2: str, **kwargs: object) -> None:
        """As a rename does, file by file."""
        super().cp_file(path1, path2, **kwargs)
        self._look()

    def put_file(self, lpath: str, rpath: str, **kwargs: object) -> None:
        """From this machine."""
        super().put_file(lpath, rpath, **kwargs)
        self._look()

    def _look(self) -> None:
        _, root = fsspec.core.url_to_fs("watched://registry")
        for version in registry_versions("watched://registry", "default"):
            names = self.ls(f"{root}/default/{version}", detail=False)
            self.seen.append({str(name).rsplit("/", 1)[-1] for name in names})


def test_a_bundle_is_whole_at_every_moment_where_a_rename_is_a_copy(registry: Path, tmp_path: Path) -> None:
    """On any fsspec address: whoever looks while it is written finds all of it or none; and it comes back as it was."""
    version = newest_version(str(registry), "default")
    assert version is not None
    whole = fetch_bundle(at(registry), version, tmp_path / "out")
    manifest = read_manifest(whole)
    fsspec.register_implementation("watched", Watched, clobber=True)
    shutil.copytree(whole, tmp_path / "in", ignore=shutil.ignore_patterns(MANIFEST))
    _, sha256 = publish_bundle(tmp_path / "in", manifest, "watched://registry")
    assert Watched.seen
    assert all(names == {*manifest.files, MANIFEST} for names in Watched.seen)
    fetch_bundle(at("watched://registry"), version, tmp_path / "back", sha256)


class Failing(MemoryFileSystem):
    """A registry whose client has errors of its own, as those of object stores do."""

    protocol = "failing"

    def _fail(self, *_: object, **__: object) -> None:
        raise RuntimeError("endpoint gone")

    ls = open = put_file = makedirs = _fail


def test_every_error_of_a_registry_is_one_kind(registry: Path, tmp_path: Path) -> None:
    """Not only an OSError: whoever can do without the registry for a while catches one error, and tries again."""
    version = newest_version(str(registry), "default")
    assert version is not None
    whole = fetch_bundle(at(registry), version, tmp_path / "out")
    fsspec.register_implementation("failing", Failing, clobber=True)
    for ask in (
        lambda: newest_version("failing://registry", "default"),
        lambda: fetch_bundle(at("failing://registry"), version, tmp_path),
        lambda: publish_bundle(whole, read_manifest(whole), "failing://registry"),
    ):
        with pytest.raises(BundleError, match="endpoint gone") as error:
            ask()
        assert error.value.reason == "missing"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ftp://me:s3cret@host/registry", "ftp://***@host/registry"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("registry", "registry"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, says: str) -> None:
    """In errors too, which go to the log."""
    assert shown_address(address) == says
    with pytest.raises(BundleError) as error:
        fetch_bundle(at(address.replace("://", "-no://")), "v", Path("unused"))
    assert "s3cret" not in str(error.value)


def test_versions_sort_by_time() -> None:
    """A later version has the greater name."""
    assert new_version(1_700_000_000_000) < new_version(1_700_000_000_001)
    assert new_version(1_700_000_000_999) < new_version(1_700_000_001_000)


def test_what_could_not_be_written_whole_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a bundle: the error is named, and nothing half-written is left."""

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", full)
    with pytest.raises(BundleError, match="no space left"):
        tiny_bundle(tmp_path)
    assert not list((tmp_path / "default").iterdir())
