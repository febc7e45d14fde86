"""Who signed a bundle or an encoder: what counts, what is refused by name, and that keys can be changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import msgspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ranker.contracts.bundle_files import MANIFEST, TABLES
from ranker.contracts.errors import BundleError, SchemaError
from ranker.registry.bundle import (
    Manifest,
    check_remote,
    fetch_bundle,
    newest_version,
    publish_bundle,
    read_manifest,
    signer,
)
from ranker.registry.encoder import DESCRIPTION, MODEL, TOKENIZER, EncoderDescription, EncoderError, load_encoder
from ranker.registry.settings import RegistrySettings
from ranker.registry.signatures import SIGNATURE, check_signing, new_key_pair, put_signature
from tests.support.tiny import tiny_bundle

PRIVATE, PUBLIC = new_key_pair()
OTHERS_PRIVATE, OTHERS_PUBLIC = new_key_pair()
SIGNED = MANIFEST + SIGNATURE


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one bundle that nobody signed."""
    home = tmp_path_factory.mktemp("published")
    tiny_bundle(home)
    return home


@pytest.fixture
def registry(published: Path, tmp_path: Path) -> RegistrySettings:
    """A copy of it, where `trainer`'s signatures count and no others."""
    home = shutil.copytree(published, tmp_path / "registry")
    return RegistrySettings(address=str(home), require_signatures=True, public_keys=f"trainer={PUBLIC}")


@pytest.fixture
def version(registry: RegistrySettings) -> str:
    """The bundle's."""
    found = newest_version(registry.address, registry.model)
    assert found is not None
    return found


def home(registry: RegistrySettings, version: str) -> Path:
    """The bundle's folder."""
    return Path(registry.address) / registry.model / version


def sign(registry: RegistrySettings, version: str, key: str = PRIVATE) -> None:
    """Sign a bundle that is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVERANK_SIGNING_KEY", key)
        put_signature(
            registry, f"{registry.model}/{version}/{MANIFEST}", (home(registry, version) / MANIFEST).read_bytes()
        )


def test_what_is_published_with_a_key_is_signed_and_serves(
    registry: RegistrySettings, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever publishes signs, and need not say so; the copy keeps the signature, and is checked again by it."""
    folder = shutil.copytree(home(registry, version), tmp_path / "files")
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", PRIVATE)
    elsewhere = msgspec.structs.replace(registry, address=str(tmp_path / "elsewhere"))
    publish_bundle(folder, read_manifest(folder), elsewhere.address)
    for _ in range(2):
        assert (fetch_bundle(elsewhere, version, tmp_path / "copies") / SIGNED).exists()
    assert signer(elsewhere, version) == "signed by trainer"
    assert SIGNED not in read_manifest(tmp_path / "copies" / version).files


def unsigned(registry: RegistrySettings, version: str) -> None:
    """As it is."""


def forged(registry: RegistrySettings, version: str) -> None:
    """By somebody else's key."""
    sign(registry, version, OTHERS_PRIVATE)


def changed_after(registry: RegistrySettings, version: str) -> None:
    """Signed, and then another file put in with its hash."""
    sign(registry, version)
    path = home(registry, version) / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    files = {**manifest.files, TABLES: "0" * 64}
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))


def cut_short(registry: RegistrySettings, version: str) -> None:
    """Not even a signature."""
    (home(registry, version) / SIGNED).write_bytes(b"\x00" * 63)


@pytest.mark.parametrize("harm", [unsigned, forged, changed_after, cut_short])
def test_what_nobody_signed_whose_signature_counts_is_refused_by_name(
    registry: RegistrySettings, version: str, tmp_path: Path, harm: Callable[[RegistrySettings, str], None]
) -> None:
    """Before any other file of it is read; nothing of it stays, and nobody can announce it."""
    harm(registry, version)
    for file in home(registry, version).iterdir():
        if file.name not in (MANIFEST, SIGNED):
            file.unlink()
    with pytest.raises(BundleError, match="sign") as error:
        fetch_bundle(registry, version, tmp_path / "copies")
    assert error.value.reason == "unsigned"
    assert not list((tmp_path / "copies").glob("*"))
    with pytest.raises(BundleError, match="sign") as error:
        check_remote(registry, version)
    assert error.value.reason == "unsigned"


def test_where_signatures_do_not_count_who_signed_is_still_told(registry: RegistrySettings, version: str) -> None:
    """In words."""
    lenient = msgspec.structs.replace(registry, require_signatures=False)
    assert signer(lenient, version) == "not signed"
    sign(registry, version, OTHERS_PRIVATE)
    assert signer(lenient, version) == "signed, by none of `public_keys`"
    check_remote(lenient, version)


def test_keys_are_changed_one_after_the_other(registry: RegistrySettings, version: str, tmp_path: Path) -> None:
    """Both count for a while; then the old one does not, for copies that lie here neither."""
    sign(registry, version)
    both = msgspec.structs.replace(registry, public_keys=f"new={OTHERS_PUBLIC}, trainer={PUBLIC}")
    fetch_bundle(both, version, tmp_path)
    later = msgspec.structs.replace(registry, public_keys=f"new={OTHERS_PUBLIC}")
    with pytest.raises(BundleError, match="signed by none of new"):
        fetch_bundle(later, version, tmp_path)


@pytest.mark.parametrize("what", ["version", "model"])
def test_a_signed_bundle_stands_for_itself_alone(
    registry: RegistrySettings, version: str, tmp_path: Path, what: str
) -> None:
    """An old one put where a new one is looked for, or another model's: its signature is good, and it is not it."""
    sign(registry, version)
    asked = registry if what == "version" else msgspec.structs.replace(registry, model="other")
    wanted = "99991231T000000000-ffffff" if what == "version" else version
    shutil.copytree(home(registry, version), home(asked, wanted))
    with pytest.raises(
        BundleError, match=f"is of default/{version}, and {asked.model}/{wanted} was asked for"
    ) as error:
        fetch_bundle(asked, wanted, tmp_path / "copies")
    assert error.value.reason == "changed"


def test_settings_that_cannot_work_are_named(
    registry: RegistrySettings, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, a key that is none, a key that nobody counts; of a private one the error shows no letter."""
    for keys, says in (("", "public_keys names none"), ("trainer", "must be NAME=KEY"), ("t=AAAA", "32 bytes")):
        with pytest.raises(SchemaError, match=says):
            sign(registry, version)
            fetch_bundle(msgspec.structs.replace(registry, public_keys=keys), version, tmp_path)
    with pytest.raises(SchemaError, match="needs LIVERANK_SIGNING_KEY"):
        check_signing(registry)
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", OTHERS_PRIVATE)
    with pytest.raises(SchemaError, match="is not among public_keys") as error:
        check_signing(registry)
    assert OTHERS_PRIVATE not in str(error.value)
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", "s3cret")
    with pytest.raises(SchemaError, match="32 bytes in base64") as error:
        check_signing(registry)
    assert "s3cret" not in str(error.value)
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", PRIVATE)
    check_signing(registry)


class Endless(MemoryFileSystem):
    """A registry whose files say that they are small, and do not end."""

    protocol = "endless"
    store = MemoryFileSystem.store

    def open(self, path: str, mode: str = "rb", **more: object) -> object:
        """What is no manifest has no end."""
        return super().open(path, mode, **more) if MANIFEST in path else Stream()


class Stream:
    """Zeros."""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        """As many as are asked for."""
        return bytes(size)


def test_no_more_is_fetched_than_there_may_be(registry: RegistrySettings, version: str, tmp_path: Path) -> None:
    """Whatever a registry says of its files' sizes; and a manifest is small, or it is none."""
    lenient = msgspec.structs.replace(registry, require_signatures=False, max_bundle_mb=2)
    fsspec.register_implementation("endless", Endless, clobber=True)
    files = fsspec.filesystem("memory")  # which it shares
    files.put(str(home(registry, version)), f"endless://registry/default/{version}", recursive=True)
    endless = msgspec.structs.replace(lenient, address="endless://registry")
    with pytest.raises(BundleError, match="larger than max_bundle_mb") as error:
        fetch_bundle(endless, version, tmp_path / "copies")
    assert error.value.reason == "too-large"
    assert not list((tmp_path / "copies").glob("*"))
    with (home(registry, version) / MANIFEST).open("ab") as manifest:
        manifest.write(b" " * (5 << 20))
    with pytest.raises(BundleError, match="larger than 4 MiB") as error:
        fetch_bundle(lenient, version, tmp_path / "copies")
    assert error.value.reason == "too-large"


def test_sizes_that_would_take_any_memory_are_refused(registry: RegistrySettings, version: str, tmp_path: Path) -> None:
    """A number of the manifest costs nothing to write."""
    path = home(registry, version) / MANIFEST
    whole = msgspec.json.decode(path.read_bytes(), type=Manifest)
    lenient = msgspec.structs.replace(registry, require_signatures=False)
    for sizes, says in (({"d": 10**9}, "its d is"), ({"layers": 4096, "window": 4096, "d": 64}, "one user's encoding")):
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(whole, config={**whole.config, **sizes})))
        with pytest.raises(BundleError, match=says) as error:
            fetch_bundle(lenient, version, tmp_path / "copies")
        assert error.value.reason == "too-large"


@pytest.fixture
def encoder(registry: RegistrySettings) -> str:
    """A folder that says that it is an encoder; it is never opened."""
    folder = Path(registry.address) / "encoders" / "words"
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(b"no graph")
    (folder / TOKENIZER).write_bytes(b"no tokenizer")
    description = EncoderDescription(name="words", dim=3, max_tokens=4, sha256={MODEL: "0" * 64, TOKENIZER: "0" * 64})
    (folder / DESCRIPTION).write_bytes(msgspec.json.encode(description))
    return "words"


def test_an_encoder_counts_only_signed_as_well(
    registry: RegistrySettings, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was copied before signatures counted."""
    with pytest.raises(EncoderError, match="is not signed"):
        load_encoder(registry, encoder, tmp_path / "cache")
    shutil.copytree(Path(registry.address) / "encoders" / encoder, tmp_path / "cache" / encoder)
    with pytest.raises(EncoderError, match="is not signed"):
        load_encoder(registry, encoder, tmp_path / "cache")
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", PRIVATE)
    path = f"encoders/{encoder}/{DESCRIPTION}"
    put_signature(registry, path, (Path(registry.address) / path).read_bytes())
    with pytest.raises(EncoderError, match="has the sha256"):  # its signature is fine: its files are not
        load_encoder(registry, encoder, tmp_path / "cache")
