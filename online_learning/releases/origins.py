"""The trainer's reading and writing of the model registry: origins out of bundles, candidates into bundles, pruning."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from online_learning.releases.bundle_files import Provenance, manifest_of, write_files
from online_learning.releases.versions import Origin, ReleaseCandidate
from online_learning.settings import TrainerSettings
from ranker.contracts.errors import BundleError
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import TableArrays
from ranker.network.transformer import ModelConfig, Ranker
from ranker.registry.address import listed, reaching, shown_address
from ranker.registry.bundle import MANIFEST, fetch_bundle, publish_bundle, read_manifest, registry_versions
from ranker.serving.model import check_golden
from ranker.serving.scorer import open_graphs

log = logging.getLogger(__name__)

_GRAPHS = ("extend.onnx", "score.onnx")
#: A version's folder, or one on its way to or from being one.
_LEFT = re.compile(r"\.?(\d{8}T\d{9}-[0-9a-f]{6})(\.tmp)?")


def load_weights(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The dense weights of a bundle, by the names of `Ranker.state_dict()`: its graphs' initialisers have those.

    Raises:
        BundleError: a weight is missing or has another shape, so the graphs are of another model config.
    """
    found: dict[str, Tensor] = {}
    for graph in _GRAPHS:
        for initializer in onnx.load(str(folder / graph)).graph.initializer:
            found[initializer.name] = torch.from_numpy(numpy_helper.to_array(initializer).copy())
    expected = Ranker(config).state_dict()
    wrong = [name for name, value in expected.items() if name not in found or found[name].shape != value.shape]
    if wrong:
        raise BundleError(f"{folder}: the graphs hold no weight {', '.join(wrong)} of the manifest's model config")
    return {name: found[name] for name in expected}


def read_origin(folder: Path) -> Origin:
    """A bundle as a trainer starts from it. The caller has checked it; see `ranker.registry.bundle.fetch`.

    Raises:
        BundleError: what does not fit.
    """
    manifest = read_manifest(folder)
    try:
        config = ModelConfig.from_dict(manifest.config)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{folder}: {error}") from error
    with torch.random.fork_rng(devices=[]):
        weights = load_weights(folder, config)
    return Origin(
        version=manifest.version,
        config=config,
        weights=weights,
        tables=TableArrays.load(folder / "tables.safetensors"),
        schema=manifest.schema,
        encoder=manifest.encoder,
        learned_until=manifest.learned_until,
        offsets=manifest.offsets,
    )


def fetch_origin(settings: TrainerSettings, version: str) -> Origin:
    """A version of the registry, by way of the trainer's own folder, where it does not stay.

    Raises:
        BundleError: it is missing or broken.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.data, prefix=".bundle-") as folder:
        return read_origin(fetch_bundle(settings.registry.address, settings.registry.model, version, Path(folder)))


@contextmanager
def written(candidate: ReleaseCandidate, model: Ranker, graphs: Path) -> Iterator[Path]:
    """A folder with the candidate's files, for as long as the block lasts.

    Args:
        candidate: what to write.
        model: its dense weights.
        graphs: see `publish_model`.
    """
    with tempfile.TemporaryDirectory(prefix="liverank-bundle-") as temporary:
        folder = Path(temporary)
        write_files(model, candidate.tables, folder, graphs)
        yield folder


def golden_fault(folder: Path, settings: TrainerSettings) -> str | None:
    """Why the folder's graphs do not give what torch gave; None where they do."""
    try:
        check_golden(folder, open_graphs(folder, settings.serving))
    except BundleError as error:
        return str(error)
    return None


def put_candidate(
    folder: Path,
    candidate: ReleaseCandidate,
    model: Ranker,
    schema: FeatureSchema,
    encoder: str,
    settings: TrainerSettings,
) -> str:
    """Put what `written` gave into the registry; the sha256 of its manifest."""
    about = Provenance(
        model=settings.registry.model, schema=schema, encoder=encoder, created=time.time_ns() // 10**6,
        version=candidate.version, parent=candidate.parent, learned_until=candidate.learned_until,
        offsets=candidate.offsets, metrics={"trained": float(candidate.trained)},
    )  # fmt: skip
    _, sha256 = publish_bundle(folder, manifest_of(model, about), settings.registry.address)
    return sha256


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
