"""Model bundles: a folder with a manifest that names every file's sha256. Never pickle.

    REGISTRY/MODEL/VERSION/manifest.json, extend.onnx, score.onnx, tables.safetensors, golden.npz

A registry is a folder or any fsspec address. The manifest is what makes a bundle one, so a half-written bundle is none:
in a folder it is written under a temporary name and renamed, and elsewhere, where a rename may be a copy file by file,
its manifest comes last. Versions sort by the time they were made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem
from msgspec import Struct

from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.errors import BundleError
from ranker.contracts.path_names import path_name
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import context_names, feature_names
from ranker.registry.address import listed, reaching, sha256, shown_address

BUNDLE_FORMAT = 1


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle is, where it came from, and the hash of each of its files."""

    format: int = BUNDLE_FORMAT
    model: str
    version: str
    parent: str | None = None
    created: int  # milliseconds since the epoch
    config: dict[str, Any]  # sizes of the Transformer
    schema: FeatureSchema
    schema_hash: str  # the full one, as earlier releases read it
    features: tuple[str, ...]  # names of the graph's candidate features, in order
    context: tuple[str, ...]  # and of its context numbers
    encoder: str  # the text encoder whose vectors the tables expect
    learned_until: int = 0  # timestamp of the newest event learned from, milliseconds
    offsets: dict[str, int] = {}  # `topic-partition` -> next offset of the examples learned from
    metrics: dict[str, float] = {}
    recipe: dict[str, Any] = {}  # how it was trained, for who trains it on; see online_learning.recipe
    warm_from: dict[str, Any] = {}  # what its training took over; see online_learning.first_model.warm
    files: dict[str, str] = {}  # name -> sha256


def new_version(now_ms: int) -> str:
    """A version name: the time in UTC to the millisecond, and six hex digits that keep two writers apart."""
    seconds, ms = divmod(now_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}{ms:03d}-{uuid.uuid4().hex[:6]}"


def check_writable(registry: str) -> None:
    """Find out before hours of training that a folder cannot take what they make. Writes nothing.

    Raises:
        BundleError: the address is none, or its folder cannot be written.
    """
    shown = shown_address(registry)
    with reaching(f"the registry {shown} cannot be written"):
        fs, root = fsspec.core.url_to_fs(registry)
    if not isinstance(fs, LocalFileSystem):
        return
    nearest = next(path for path in (Path(root), *Path(root).parents) if path.exists())
    if not nearest.is_dir():
        raise BundleError(f"the registry {shown} cannot be written: {nearest} is a file; give a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BundleError(f"the registry {shown} cannot be written: {nearest} may not be; give a folder that may")


def publish_bundle(folder: Path, manifest: Manifest, registry: str) -> tuple[str, str]:
    """Put a folder of files into the registry as a bundle.

    Args:
        folder: holds every file of the bundle but the manifest.
        manifest: what it is; `files` is filled in here.
        registry: a folder or an fsspec address.

    Returns:
        The bundle's address, and the sha256 of its manifest.

    Raises:
        BundleError: the registry cannot be written.
    """
    path_name(manifest.model, "model")
    path_name(manifest.version, "version")
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = msgspec.structs.replace(manifest, files=files)
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(encoded)
    with reaching(f"the registry {shown_address(registry)} cannot be written"):
        fs, root = fsspec.core.url_to_fs(registry)
        home = f"{root}/{manifest.model}"
        fs.makedirs(home, exist_ok=True)
        final = f"{home}/{manifest.version}"
        renames = isinstance(fs, LocalFileSystem)
        # Two workers may write the same starter at once, each under a name of its own.
        written = f"{home}/.{manifest.version}.{uuid.uuid4().hex[:6]}.tmp" if renames else final
        fs.makedirs(written, exist_ok=True)
        try:
            for name in (*files, MANIFEST):  # the manifest last: it completes the bundle
                fs.put_file(str(folder / name), f"{written}/{name}")
            if renames and fs.exists(final):  # another worker was faster with the same starter
                fs.rm(written, recursive=True)
            elif renames:
                fs.mv(written, final, recursive=True)
        except BaseException:
            with suppress(Exception):  # a registry that cannot be written may not be cleared either
                fs.rm(written, recursive=True)
            raise
    return final, hashlib.sha256(encoded).hexdigest()


def registry_versions(registry: str, model: str) -> list[str]:
    """The complete bundles of a model, oldest first.

    Raises:
        BundleError: the registry cannot be read.
    """
    path_name(model, "model")
    with reaching(f"the registry {shown_address(registry)} cannot be read"):
        fs, root = fsspec.core.url_to_fs(registry)
        fs.invalidate_cache()  # some backends keep listings
        home = f"{root}/{model}"
        names = listed(fs, home) - {MANIFEST}
        return sorted(name for name in names if name[0] != "." and MANIFEST in listed(fs, f"{home}/{name}"))


def newest_version(registry: str, model: str) -> str | None:
    """The newest complete bundle of a model; None where there is none."""
    found = registry_versions(registry, model)
    return found[-1] if found else None


def fetch_bundle(registry: str, model: str, version: str, into: Path, manifest_sha256: str | None = None) -> Path:
    """Copy a bundle out of the registry and check every hash.

    Returns:
        `into/version`, whole and checked. One that is there already is checked again, not copied.

    Raises:
        BundleError: it is missing, incomplete or not what its manifest says, or the version is no name of one.
    """
    path_name(model, "model")
    target = into / path_name(version, "version")
    if not target.exists():
        partial = into / f".{version}-{uuid.uuid4().hex[:6]}.tmp"
        try:
            with reaching(f"bundle {model}/{version} cannot be fetched from {shown_address(registry)}"):
                fs, root = fsspec.core.url_to_fs(registry)
                partial.mkdir(parents=True)
                fs.get_file(f"{root}/{model}/{version}/{MANIFEST}", str(partial / MANIFEST))
                for name in read_manifest(partial).files:
                    fs.get_file(f"{root}/{model}/{version}/{name}", str(partial / name))
                check_bundle(partial, manifest_sha256)
                partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    else:
        check_bundle(target, manifest_sha256)
    return target


def read_remote_manifest(registry: str, model: str, version: str) -> tuple[Manifest, str]:
    """A bundle's manifest as the registry has it, and its sha256; nothing else of the bundle is fetched.

    Raises:
        BundleError: the registry has no such bundle; the newest ones that it has are named.
        LiverankError: the name leads elsewhere.
    """
    path_name(version, "version")
    try:
        fs, root = fsspec.core.url_to_fs(registry)
        encoded: bytes = fs.cat_file(f"{root}/{model}/{version}/{MANIFEST}")
        return msgspec.json.decode(encoded, type=Manifest), hashlib.sha256(encoded).hexdigest()
    except (OSError, ValueError, ImportError, msgspec.DecodeError) as error:
        found = ", ".join(registry_versions(registry, model)[-5:]) or "none"
        where = f"{shown_address(registry)} has no bundle {version!r} of model {model!r}"
        raise BundleError(f"{where} ({error}); its newest are: {found}", "missing") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle's folder.

    Raises:
        BundleError: there is none, or it is of a format or shape that this release does not read.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(f"{folder} is no bundle: {error}") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is no manifest: {error}") from error
    if manifest.format != BUNDLE_FORMAT:
        raise BundleError(f"{path} is of format {manifest.format}; this release reads {BUNDLE_FORMAT}")
    for name in manifest.files:
        path_name(name, "file beside its manifest")
    for name, what in ((manifest.model, "model"), (manifest.version, "version"), (manifest.encoder, "encoder")):
        path_name(name, what)
    if manifest.parent is not None:
        path_name(manifest.parent, "version")
    return manifest


def check_bundle(folder: Path, manifest_sha256: str | None = None) -> Manifest:
    """Check a bundle's hashes and that its features are the ones this release computes.

    Raises:
        BundleError: names the file and what is wrong with it.
    """
    if manifest_sha256 is not None and (folder / MANIFEST).exists() and sha256(folder / MANIFEST) != manifest_sha256:
        raise BundleError(
            f"{folder / MANIFEST} is not the announced one: its sha256 is not {manifest_sha256}", "changed"
        )
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.exists():
            raise BundleError(f"{path} is missing", "changed")
        if sha256(path) != expected:
            raise BundleError(f"{path} was changed: its sha256 is not the manifest's {expected}", "changed")
    schema = manifest.schema
    if not schema.named(manifest.schema_hash):
        raise BundleError(
            f"{folder}: the schema's hash is {schema.hash}, the manifest says {manifest.schema_hash}", "schema"
        )
    if manifest.features != feature_names(schema) or manifest.context != context_names(schema):
        raise BundleError(
            f"{folder}: its features are not the ones this release computes; train it with this release", "schema"
        )
    return manifest
