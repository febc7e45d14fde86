"""Model bundles: a folder with a manifest that names every file's sha256. Never pickle.

    REGISTRY/MODEL/VERSION/manifest.json, extend.onnx, score.onnx, tables.safetensors, golden.npz, manifest.json.sig

A registry is a folder or any fsspec address. The manifest is what makes a bundle one, so a half-written bundle is none:
in a folder it is written under a temporary name and renamed, and elsewhere, where a rename may be a copy file by file,
its manifest comes last. Versions sort by the time they were made. `manifest.json.sig` is there where who published it
had a key (`ranker.registry.signatures`).
"""

from __future__ import annotations

import hashlib
import math
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
from ranker.features.names import WORD_FEATURES, context_names, feature_names
from ranker.registry.address import READ_AT_MOST, fetch_file, listed, reaching, read_signature, read_small, sha256
from ranker.registry.settings import RegistrySettings, shown_address
from ranker.registry.signatures import SIGNATURE, check_signature, public_keys, signed, signer_of

#: Since 2 a model may read what users type. Releases that read 1 refuse it, and serve on what they have.
BUNDLE_FORMAT, _FORMATS_READ = 2, (1, 2)
_LARGEST = 8192  # of any size of a model: its width, its layers, its window
_LARGEST_ENCODING = 1 << 26  # numbers: half a gigabyte for the keys and values of one user


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
    words: tuple[str, ...] = ()  # and of what it reads of each text that a user typed; none in format 1
    encoder: str  # the text encoder whose vectors the tables expect
    learned_until: int = 0  # timestamp of the newest event learned from, milliseconds
    offsets: dict[str, int] = {}  # `topic-partition` -> next offset of the examples learned from
    since_starter: int | None = None  # examples learned from since the starter; None: it began with a training
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
    """Put a folder of files into the registry as a bundle, signed where the environment has a key.

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
    beside = (MANIFEST, MANIFEST + SIGNATURE)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name not in beside}
    manifest = msgspec.structs.replace(manifest, files=files)
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(encoded)
    names = [*files, MANIFEST]  # the manifest last: it completes the bundle
    if (signature := signed(encoded)) is not None:
        (folder / (MANIFEST + SIGNATURE)).write_bytes(signature)
        names.insert(-1, MANIFEST + SIGNATURE)
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
            for name in names:
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


def fetch_bundle(registry: RegistrySettings, version: str, into: Path, manifest_sha256: str | None = None) -> Path:
    """Copy a bundle out of the registry and check it: who signed it, that it is the one asked for, and every hash.

    Returns:
        `into/version`, whole and checked. One that is there already is checked again, not copied.

    Raises:
        BundleError: it is missing, incomplete, too large, unsigned where that counts, not what its manifest says or not
            the one asked for, or the version is no name of one.
    """
    path_name(registry.model, "model")
    target = into / path_name(version, "version")
    if target.exists():
        check_copy(target, registry, version, manifest_sha256)
        return target
    partial = into / f".{version}-{uuid.uuid4().hex[:6]}.tmp"
    where = f"{registry.model}/{version}"
    try:
        with reaching(f"bundle {where} cannot be fetched from {shown_address(registry.address)}"):
            fs, root = fsspec.core.url_to_fs(registry.address)
            partial.mkdir(parents=True)
            (partial / MANIFEST).write_bytes(read_small(fs, f"{root}/{where}/{MANIFEST}"))
            if (signature := read_signature(fs, f"{root}/{where}/{MANIFEST}{SIGNATURE}")) is not None:
                (partial / (MANIFEST + SIGNATURE)).write_bytes(signature)
            left = registry.max_bundle_mb << 20
            for name in check_origin(partial, registry, version, manifest_sha256).files:
                left -= fetch_file(fs, f"{root}/{where}/{name}", partial / name, left)
            check_bundle(partial)
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def read_remote_manifest(registry: RegistrySettings, version: str) -> tuple[Manifest, str]:
    """A bundle's manifest as the registry has it, whoever signed it, and its sha256; nothing else of it is fetched.

    Raises:
        BundleError: the registry has no such bundle; the newest ones that it has are named.
        LiverankError: the name leads elsewhere.
    """
    encoded = _remote(registry, version)[0]
    try:
        return msgspec.json.decode(encoded, type=Manifest), hashlib.sha256(encoded).hexdigest()
    except msgspec.DecodeError as error:
        raise BundleError(f"the manifest of {version} is none: {error}") from error


def signer(registry: RegistrySettings, version: str) -> str:
    """Who signed a bundle in the registry, in words.

    Raises:
        BundleError: the registry has no such bundle.
        SchemaError: `public_keys` holds something that is no key.
    """
    encoded, signature = _remote(registry, version)
    if signature is None:
        return "not signed"
    name = signer_of(encoded, signature, public_keys(registry))
    return "signed, by none of `public_keys`" if name is None else f"signed by {name}"


def check_remote(registry: RegistrySettings, version: str) -> str:
    """Check who signed a bundle in the registry, where that counts; the sha256 of its manifest.

    Raises:
        BundleError: it is not there, or its signature does not count.
    """
    encoded, signature = _remote(registry, version)
    check_signature(f"the manifest of {version}", encoded, signature, registry)
    return hashlib.sha256(encoded).hexdigest()


def _remote(registry: RegistrySettings, version: str) -> tuple[bytes, bytes | None]:
    path_name(version, "version")
    try:
        fs, root = fsspec.core.url_to_fs(registry.address)
        manifest = f"{root}/{registry.model}/{version}/{MANIFEST}"
        return read_small(fs, manifest), read_signature(fs, manifest + SIGNATURE)
    except (OSError, ValueError, ImportError) as error:
        found = ", ".join(registry_versions(registry.address, registry.model)[-5:]) or "none"
        where = f"{shown_address(registry.address)} has no bundle {version!r} of model {registry.model!r}"
        raise BundleError(f"{where} ({shown_address(str(error))}); its newest are: {found}", "missing") from error


def check_copy(folder: Path, registry: RegistrySettings, version: str, manifest_sha256: str | None = None) -> Manifest:
    """Check a bundle's folder as one that comes from the registry: `check_origin`, then `check_bundle`."""
    check_origin(folder, registry, version, manifest_sha256)
    return check_bundle(folder)


def check_origin(folder: Path, registry: RegistrySettings, version: str, manifest_sha256: str | None) -> Manifest:
    """Check a manifest before anything that it says is believed: its signature, its announced hash, whose it is.

    Args:
        folder: holds it, and its signature if it has one.
        registry: whose signatures count, and which model this is to be.
        version: that was asked for.
        manifest_sha256: as announced, if it was.

    Raises:
        BundleError: what is wrong with it.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}")
    if path.stat().st_size > READ_AT_MOST:
        raise BundleError(f"{path} is larger than {READ_AT_MOST >> 20} MiB, as no manifest is", "too-large")
    content, beside = path.read_bytes(), folder / (MANIFEST + SIGNATURE)
    check_signature(str(path), content, beside.read_bytes() if beside.exists() else None, registry)
    if manifest_sha256 is not None and hashlib.sha256(content).hexdigest() != manifest_sha256:
        raise BundleError(f"{path} is not the announced one: its sha256 is not {manifest_sha256}", "changed")
    manifest = read_manifest(folder)
    if (manifest.model, manifest.version) != (registry.model, version):
        raise BundleError(
            f"{path} is of {manifest.model}/{manifest.version}, and {registry.model}/{version} was asked for", "changed"
        )
    return manifest


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
    if manifest.format not in _FORMATS_READ:
        read = " and ".join(map(str, _FORMATS_READ))
        raise BundleError(f"{path} is of format {manifest.format}; this release reads {read}")
    for name in manifest.files:
        path_name(name, "file beside its manifest")
    for name, what in ((manifest.model, "model"), (manifest.version, "version"), (manifest.encoder, "encoder")):
        path_name(name, what)
    if manifest.parent is not None:
        path_name(manifest.parent, "version")
    return manifest


def check_bundle(folder: Path) -> Manifest:
    """Check a bundle's hashes and sizes, and that its features are the ones this release computes.

    Raises:
        BundleError: names the file and what is wrong with it.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.exists():
            raise BundleError(f"{path} is missing", "changed")
        if sha256(path) != expected:
            raise BundleError(f"{path} was changed: its sha256 is not the manifest's {expected}", "changed")
    _check_sizes(folder, manifest)
    schema = manifest.schema
    if not schema.named(manifest.schema_hash):
        raise BundleError(
            f"{folder}: the schema's hash is {schema.hash}, the manifest says {manifest.schema_hash}", "schema"
        )
    features = manifest.features, manifest.context, manifest.words or WORD_FEATURES
    if features != (feature_names(schema), context_names(schema), WORD_FEATURES):
        raise BundleError(
            f"{folder}: its features are not the ones this release computes; train it with this release", "schema"
        )
    return manifest


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    """Refuse a model whose sizes, which fit into few bytes, would take any amount of memory."""
    sizes = {name: size for name, size in manifest.config.items() if isinstance(size, int)}
    sizes["window of the schema"] = manifest.schema.window
    for name, size in sizes.items():
        if size > _LARGEST:
            raise BundleError(f"{folder}: its {name} is {size}; at most {_LARGEST} is possible", "too-large")
    encoding = math.prod(sizes.get(name, 1) for name in ("layers", "window", "d"))
    if encoding > _LARGEST_ENCODING:
        raise BundleError(f"{folder}: one user's encoding would hold {encoding} numbers", "too-large")
