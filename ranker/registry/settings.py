"""Where the registry is, and which of its models an installation runs."""

from __future__ import annotations

from msgspec import Struct


class RegistrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[registry]`: where it is, and which model of it this installation runs."""

    address: str = "registry"  # a folder, or any fsspec address
    model: str = "default"  # the model's name in the registry and the key on model-updates
