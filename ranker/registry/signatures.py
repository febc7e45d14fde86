"""Who made a bundle or an encoder: ed25519 (RFC 8032) over the one file that names the hashes of all others.

A signature is 64 bytes in a file of its own, `manifest.json.sig` or `encoder.json.sig`. Keys are 32 bytes in base64,
the private one in the environment of whoever publishes, the public ones, by name, in the settings of whoever uses what
was published. Several may be known, so that a new key can be used before the old one is taken out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import fsspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ranker.contracts.errors import BundleError, SchemaError
from ranker.registry.address import reaching
from ranker.registry.settings import RegistrySettings, shown_address, signing_key

SIGNATURE = ".sig"  # behind the name of the file that is signed


def new_key_pair() -> tuple[str, str]:
    """A private key and its public one, in base64."""
    key = Ed25519PrivateKey.generate()
    return _written(key.private_bytes_raw()), _written(key.public_key().public_bytes_raw())


def signed(content: bytes) -> bytes | None:
    """The signature of a file by this process's key; None where the environment has none.

    Raises:
        SchemaError: what the environment has is no key.
    """
    key = _private_key()
    return None if key is None else key.sign(content)


def put_signature(registry: RegistrySettings, path: str, content: bytes) -> None:
    """Sign a file of a registry that is known to be as it should be.

    Args:
        registry: where it is.
        path: of the file, in the registry.
        content: of the file.

    Raises:
        SchemaError: the environment has no key.
        BundleError: the registry cannot be written.
    """
    signature = signed(content)
    if signature is None:
        raise SchemaError("LIVERANK_SIGNING_KEY is not set; `liverank keys new` makes a key")
    with reaching(f"the registry {shown_address(registry.address)} cannot be written"):
        fs, root = fsspec.core.url_to_fs(registry.address)
        fs.pipe_file(f"{root}/{path}{SIGNATURE}", signature)


def signer_of(content: bytes, signature: bytes | None, keys: Mapping[str, Ed25519PublicKey]) -> str | None:
    """The name of the key that a file was signed with; None where it is none of these.

    Args:
        content: of the file.
        signature: beside it, if there is one.
        keys: those that are known, by name.
    """
    if signature is None:
        return None
    for name, key in keys.items():
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return name
    return None


def check_signature(what: str, content: bytes, signature: bytes | None, registry: RegistrySettings) -> None:
    """Refuse what nobody has signed whose signature counts, where the settings ask for that.

    Args:
        what: is signed, for the error.
        content: of the file.
        signature: beside it, if there is one.
        registry: whose signatures count.

    Raises:
        BundleError: with the reason "unsigned": there is no signature, it is of an unknown key, or of another content.
        SchemaError: the settings ask for signatures and name no key, or something that is none.
    """
    if not registry.require_signatures:
        return
    keys = public_keys(registry)
    if not keys:
        raise SchemaError("require_signatures is set and public_keys names none; `liverank keys new` makes a pair")
    if signature is None:
        raise BundleError(f"{what} is not signed, and require_signatures is set", "unsigned")
    if signer_of(content, signature, keys) is None:
        raise BundleError(f"{what} is signed by none of {', '.join(keys)}, or was changed after", "unsigned")


def check_signing(registry: RegistrySettings) -> None:
    """Refuse to publish what nobody here would take.

    Raises:
        SchemaError: the settings ask for signatures, and this process has no key whose signatures count.
    """
    if not registry.require_signatures:
        return
    key = _private_key()
    if key is None:
        raise SchemaError(
            "require_signatures is set, and whoever publishes needs LIVERANK_SIGNING_KEY in the environment: no worker "
            "would serve what it makes"
        )
    ours = key.public_key().public_bytes_raw()
    if ours not in {known.public_bytes_raw() for known in public_keys(registry).values()}:
        raise SchemaError(f"the public key of LIVERANK_SIGNING_KEY, {_written(ours)}, is not among public_keys")


def public_keys(registry: RegistrySettings) -> dict[str, Ed25519PublicKey]:
    """The keys whose signatures count, by name.

    Raises:
        SchemaError: one is none.
    """
    found = {}
    for part in registry.public_keys.split(","):
        if part.strip():
            name, _, key = part.strip().partition("=")
            try:
                found[name] = Ed25519PublicKey.from_public_bytes(_read(key))
            except ValueError as error:
                raise SchemaError(
                    f"public_keys holds {part.strip()!r}; each must be NAME=KEY, the key 32 bytes in base64: {error}"
                ) from error
    return found


def _private_key() -> Ed25519PrivateKey | None:
    given = signing_key()
    if not given:
        return None
    try:
        return Ed25519PrivateKey.from_private_bytes(_read(given))
    except ValueError:
        # What the environment holds is a secret, or part of one: no word of it goes into the error.
        raise SchemaError(
            "LIVERANK_SIGNING_KEY must be 32 bytes in base64, as `liverank keys new` makes them"
        ) from None


def _read(key: str) -> bytes:
    try:
        return base64.b64decode(key.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError(f"that is no base64 ({error})") from error


def _written(key: bytes) -> str:
    return base64.b64encode(key).decode()
