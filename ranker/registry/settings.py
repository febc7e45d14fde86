"""Where the registry is, which of its models an installation runs, and whom it believes; and what settings may be."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ranker.contracts.path_names import PATH_NAME

# What a setting may be. `liverank.settings` says it of one that is something else, by type, bounds and description.
Positive = Annotated[int, Meta(ge=1, le=1 << 31)]
Natural = Annotated[int, Meta(ge=0, le=1 << 62)]
Share = Annotated[float, Meta(ge=0, le=1)]
Span = Annotated[float, Meta(ge=0, le=1e9)]
PagePort = Annotated[int, Meta(ge=-1, le=65535)]
HostName = Annotated[str, Meta(min_length=1, description="a host's name or address; 0.0.0.0 for all of this one")]
Provider = Literal["auto", "cpu", "cuda"]


class RegistrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[registry]`: where it is, which model of it this installation runs, and what may be taken from it."""

    address: Annotated[str, Meta(min_length=1, description="a folder, or an fsspec address")] = "registry"
    model: Annotated[
        str,
        Meta(pattern=PATH_NAME, description="up to 128 letters, digits, '.', '_' and '-', the first a letter or digit"),
    ] = "default"  # the model's name in the registry and the key on model-updates
    require_signatures: bool = False  # use bundles and encoders only that one of `public_keys` has signed
    public_keys: str = ""  # NAME=KEY, several with commas: whose signatures count; `liverank keys new` makes them
    max_bundle_mb: Positive = 4096  # of a bundle's or an encoder's files together: nothing larger is fetched


def signing_key() -> str:
    """The private key that whoever publishes signs with: from the environment alone, never stored, never logged."""
    return os.environ.get("LIVERANK_SIGNING_KEY", "")


def shown_address(text: str) -> str:
    """An address, or a text that holds some, as it may be logged: without the users and passwords in them."""
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)
