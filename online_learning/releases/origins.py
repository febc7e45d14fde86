"""Bundles as a trainer starts from them, and its candidates as bundles: between torch's weights and the registry."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from online_learning.recipe import Recipe
from online_learning.releases.versions import Origin, ReleaseCandidate
from online_learning.releases.writing import MADE_BY_TRAINER, Provenance, manifest_of, write_files
from online_learning.settings import TrainerSettings
from ranker.contracts.bundle_files import GRAPHS, TABLES
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import BundleError, LiverankError
from ranker.contracts.schema import FeatureSchema
from ranker.features.names import BUILT_IN
from ranker.items.tables import TableArrays
from ranker.network.transformer import ModelConfig, Ranker, WordTerms
from ranker.registry.bundle import (
    Manifest,
    fetch_bundle,
    publish_bundle,
    read_manifest,
    read_remote_manifest,
    registry_versions,
)
from ranker.serving.golden import check_golden
from ranker.serving.scorer import open_graphs
from ranker.starter.bundle import is_starter

log = logging.getLogger(__name__)

_WORDS = "words."  # what the names of its weights begin with


def load_weights(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The dense weights of a bundle, by the names of `Ranker.state_dict()`: its graphs' initialisers have those.

    A bundle of a release that read no words has no `WordTerms`: those are as in a model that is new.

    Raises:
        BundleError: a weight is missing or has another shape, so the graphs are of another model config.
    """
    found: dict[str, Tensor] = {}
    for graph in GRAPHS.values():
        for initializer in onnx.load(str(folder / graph)).graph.initializer:
            found[initializer.name] = torch.from_numpy(numpy_helper.to_array(initializer).copy())
    with torch.device("meta"):  # shapes alone: what a config says must not take memory that the file has not
        expected = Ranker(config).state_dict()
    if not any(name.startswith(_WORDS) for name in found):
        fresh = WordTerms(config).state_dict()
        found |= {f"{_WORDS}{name}": value for name, value in fresh.items()}
    wrong = [name for name, value in expected.items() if name not in found or found[name].shape != value.shape]
    if wrong:
        raise BundleError(f"{folder}: the graphs hold no weight {', '.join(wrong)} of the manifest's model config")
    return {name: found[name] for name in expected}


def read_origin(folder: Path) -> Origin:
    """A bundle as a trainer starts from it. The caller has checked it; see `ranker.registry.bundle.fetch_bundle`.

    Raises:
        BundleError: what does not fit.
    """
    manifest = read_manifest(folder)
    try:
        config = ModelConfig.from_dict(manifest.config)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{folder}: {error}") from error
    weights, tables = load_weights(folder, config), TableArrays.load(folder / TABLES)
    numbers = [*weights.values(), *(torch.from_numpy(getattr(tables, name)) for name in tables.__struct_fields__)]
    if not all(bool(torch.isfinite(one).all()) for one in numbers):
        raise BundleError(f"{folder}: its weights or item tables hold numbers that are not finite", "not-finite")
    return Origin(
        version=manifest.version,
        config=config,
        weights=weights,
        tables=tables,
        schema=manifest.schema,
        encoder=manifest.encoder,
        learned_until=manifest.learned_until,
        offsets=manifest.offsets,
        recipe=_recipe_of(manifest),
        by_trainer=MADE_BY_TRAINER in manifest.metrics,
        since_starter=0 if is_starter(manifest.version) else manifest.since_starter,
    )


def _recipe_of(manifest: Manifest) -> Recipe:
    try:
        return msgspec.convert(manifest.recipe, Recipe)
    except msgspec.ValidationError as error:
        raise BundleError(f"bundle {manifest.version}: its recipe is none of this release: {error}") from error


def emptied(starter: Origin) -> Origin:
    """The starter with nothing but the shown order: what relations and counts say is taken out, and may be learned."""
    weights = {name: value.clone() for name, value in starter.weights.items()}
    for name in ("relations.events", "relations.trail", "words.strength", "words.relation"):
        weights[name].zero_()
    counted = [at for at, name in enumerate(BUILT_IN) if not name.endswith("_position")]
    weights["features.weight"][counted] = 0
    return msgspec.structs.replace(starter, version=f"{starter.version}-empty", weights=weights)


def fetch_origin(settings: TrainerSettings, version: str, sha256: str | None = None, *, learns: bool = True) -> Origin:
    """A version of the registry, by way of the trainer's own folder, where it does not stay.

    Args:
        settings: of the trainer.
        version: which one.
        sha256: of its manifest, where it was announced.
        learns: whether examples of earlier schemas may come to it; what only ranks need not look for those.

    Raises:
        BundleError: it is missing or broken.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.data, prefix=".bundle-") as folder:
        fetched = fetch_bundle(settings.registry, version, Path(folder), sha256)
        try:
            origin = read_origin(fetched)
            return msgspec.structs.replace(origin, readable=_readable(settings, origin.schema)) if learns else origin
        except (LiverankError, OSError, MemoryError):
            raise
        except Exception as error:
            log.error("%s cannot be read, and that is a fault of ours or of its files", version, exc_info=error)
            raise BundleError(f"{version} cannot be read: {error!r}") from error


def _readable(settings: TrainerSettings, schema: FeatureSchema) -> frozenset[str]:
    """Hashes of the registry's other schemas whose examples mean the same to this one: some may be under way."""
    address, model = settings.registry.address, settings.registry.model
    found: set[str] = set()
    for version in registry_versions(address, model):
        with suppress(BundleError):  # pruned meanwhile, or broken
            other = read_remote_manifest(settings.registry, version)[0].schema
            if schema.reads(other):
                found |= {other.hash, other.full_hash}
    return frozenset(found)


def model_of(origin: Origin) -> Ranker:
    """The version's dense weights as a model."""
    with torch.random.fork_rng(devices=[]):  # a new model draws its weights
        model = Ranker(origin.config)
    model.load_state_dict(dict(origin.weights))
    return model.eval()


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
        model=settings.registry.model, schema=schema, encoder=encoder, created=now_ms(),
        version=candidate.version, parent=candidate.parent, learned_until=candidate.learned_until,
        offsets=candidate.offsets, metrics={MADE_BY_TRAINER: float(candidate.trained)},
        recipe=candidate.recipe, since_starter=candidate.since_starter,
    )  # fmt: skip
    _, sha256 = publish_bundle(folder, manifest_of(model, about), settings.registry.address)
    return sha256
