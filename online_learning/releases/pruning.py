"""What the registry needs no more: versions that nobody may go back to, and what a killed process left half written."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import fsspec

from online_learning.releases.plan import prunable
from online_learning.releases.writing import MADE_BY_TRAINER
from online_learning.settings import TrainerSettings
from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import BundleError
from ranker.registry.address import listed, reaching
from ranker.registry.bundle import new_version, read_remote_manifest, registry_versions
from ranker.registry.settings import RegistrySettings, shown_address
from ranker.rollout.stages import Stages

log = logging.getLogger(__name__)

#: A version's folder, or one on its way to or from being one.
_LEFT = re.compile(r"\.?(\d{8}T\d{9}-[0-9a-f]{6})(\.[0-9a-f]{6})?(\.tmp)?")


def delete_versions(settings: TrainerSettings, versions: Sequence[str]) -> list[str]:
    """Delete versions; those that are gone. Each loses its manifest first, so that nobody takes half of one for it."""
    fs, root = fsspec.core.url_to_fs(settings.registry.address)
    gone = []
    for version in versions:
        path = f"{root}/{settings.registry.model}/{version}"
        try:
            with reaching(f"the old version {version} stays"):
                fs.rm_file(f"{path}/{MANIFEST}")
                fs.rm(path, recursive=True)
                gone.append(version)
        except BundleError as error:
            log.warning("%s", error)
    return gone


def sweep(settings: TrainerSettings, before: str, needed: Collection[str] = ()) -> list[str]:
    """Delete what was left half written or half deleted by a process that was killed; the names that are gone.

    Args:
        settings: where the registry is.
        before: a version. What is older than it, and no whole bundle, is nobody's work any more.
        needed: versions to keep whatever their folders look like.

    Raises:
        BundleError: the registry cannot be read, or does not let us delete.
    """
    with reaching(f"{shown_address(settings.registry.address)} cannot be swept"):
        return _sweep(settings, before, needed)


def _sweep(settings: TrainerSettings, before: str, needed: Collection[str]) -> list[str]:
    fs, root = fsspec.core.url_to_fs(settings.registry.address)
    home = f"{root}/{settings.registry.model}"
    old = {name for name in listed(fs, home) if (found := _LEFT.fullmatch(name)) and found[1] < before}
    gone = sorted(old - set(registry_versions(settings.registry.address, settings.registry.model)) - set(needed))
    for name in gone:
        fs.rm(f"{home}/{name}", recursive=True)
    return gone


#: No upload of a bundle takes longer: what is older and not whole was left by a process that was killed.
_WRITTEN_WITHIN_MS = 6 * 3_600_000


@lru_cache(1 << 12)  # a version never changes
def by_trainer(registry: RegistrySettings, version: str) -> bool:
    """Whether a trainer made a version, and not a person.

    Raises:
        BundleError: it cannot be read.
    """
    return MADE_BY_TRAINER in read_remote_manifest(registry, version)[0].metrics


def _disposable(settings: TrainerSettings, version: str) -> bool:
    """Whether there will be another one like it: what a person trained waits for as long as they like."""
    try:
        return by_trainer(settings.registry, version)
    except BundleError:
        return False


def prune_registry(settings: TrainerSettings, stages: Stages, compared: Collection[str]) -> list[str]:
    """Delete what is neither among the newest nor needed, of the versions that trainers made; those that are gone.

    Args:
        settings: where the registry is.
        stages: where the versions stand.
        compared: the first version and the anchors.
    """
    versions = registry_versions(settings.registry.address, settings.registry.model)
    needed = [version for version in (stages.serving, stages.previous, stages.canary) if version is not None]
    sweep(settings, new_version(now_ms() - _WRITTEN_WITHIN_MS), [*compared, *needed])
    old = prunable(versions, stages, settings.keep_bundles, compared)
    return delete_versions(settings, [version for version in old if _disposable(settings, version)])
