"""From a version's name to a model that may serve: fetched, checked, loaded and warm. Runs on a thread of its own."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ranker.contracts.errors import BundleError, OtherInputs
from ranker.contracts.inputs import Position
from ranker.contracts.path_names import path_name
from ranker.contracts.records import Candidate, CandidateList, Interaction
from ranker.contracts.schema import FeatureSchema, differences, renumbered
from ranker.contracts.topics import CANDIDATES, VIEWS
from ranker.items.catalog import Catalog
from ranker.registry.bundle import Manifest, fetch_bundle, read_manifest, read_remote_manifest
from ranker.serving.model import ServingModel, load_model
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from streams.models.pacing import PAUSE_S, PAUSES, Pace, giving_way
from streams.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Users ranked while warming up; of the others only the histories are encoded.
_RANKED = 16
#: Users encoded in one piece: part of what one costs is the same for two.
_ENCODED_TOGETHER = 2
_FREED_TOGETHER = 32  # users

Row = tuple[str, UserRow]


def copies(settings: WorkerSettings) -> Path:
    """Where the worker keeps the bundles that it serves."""
    return settings.data / "bundles"


def local_versions(settings: WorkerSettings) -> list[str]:
    """Versions that were served here before, oldest first."""
    folder = copies(settings)
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def keep_copies(settings: WorkerSettings, versions: Collection[str]) -> None:
    """Delete all copies but these."""
    for version in set(local_versions(settings)) - set(versions):
        shutil.rmtree(copies(settings) / version, ignore_errors=True)


def fetch_copy(
    settings: WorkerSettings, version: str, sha256: str | None, like: ServingModel | Manifest | None = None
) -> Path:
    """A checked copy of a bundle. One that lies here already needs no registry, and is replaced where it is broken.

    Args:
        settings: of the worker.
        version: which one.
        sha256: of its manifest, as announced.
        like: what serves now, None at the start; nothing is fetched that cannot serve beside it, or after what served
            here before.

    Raises:
        BundleError: it is missing or must not serve, or its name leads elsewhere.
    """
    path_name(version, "version")
    into = copies(settings)
    if not (into / version).exists():
        manifest, digest = read_remote_manifest(settings.registry, version)
        if sha256 not in (None, digest):
            pass  # not the one that was announced: what it says counts for nothing, and fetching refuses it
        elif like is None:
            _check_numbers(manifest, settings)
        else:
            check_inputs(manifest, like)
    into.mkdir(parents=True, exist_ok=True)
    for broken in into.glob(f".{version}-*.tmp"):  # left by a worker that was killed
        shutil.rmtree(broken, ignore_errors=True)
    try:
        return fetch_bundle(settings.registry, version, into, sha256)
    except BundleError as error:
        if not (into / version).exists():
            raise
        log.warning("the copy of %s is broken and is fetched again: %s", version, error)
        shutil.rmtree(into / version)
    return fetch_bundle(settings.registry, version, into, sha256)


def load_version(
    settings: WorkerSettings, folder: Path, catalog: Catalog, like: ServingModel | None, warm_with: Sequence[Row]
) -> ServingModel:
    """A model that may serve from the next batch on.

    Args:
        settings: of the worker.
        folder: a checked bundle.
        catalog: of the worker.
        like: what serves now, whose inputs this model must understand.
        warm_with: rows to rank before anyone sees the result, the most important one first.

    Raises:
        BundleError: it must not serve.
    """
    if like is not None:
        check_inputs(read_manifest(folder), like)
    with giving_way():
        return _loaded(settings, folder, catalog, like, warm_with)


def _loaded(
    settings: WorkerSettings, folder: Path, catalog: Catalog, like: ServingModel | None, warm_with: Sequence[Row]
) -> ServingModel:
    pace = Pace(0.0 if like is None else PAUSES)  # nobody waits behind the first version
    model = load_model(folder, catalog, settings.serving, like, pace.rest)
    try:
        for name in ("ids", "vectors", "statistics", "strengths"):
            if not np.isfinite(getattr(model.tables, name)).all():
                raise BundleError(f"{folder}: its item tables hold numbers that are not finite", "not-finite")
            pace.rest()
        warm_up(model, warm_with, pace)
    except BaseException:
        model.close()
        raise
    return model


def warm_up(model: ServingModel, rows: Sequence[Row], pace: Pace) -> None:
    """Rank before serving, once made up, then some of these users; the encodings of all are in the cache from then on.

    Raises:
        BundleError: a ranking fails.
    """
    newest, others = rows[:_RANKED], rows[_RANKED:][::-1]  # the cache drops what was used longest ago
    together = range(0, len(others), _ENCODED_TOGETHER)
    work: list[Callable[[], object]] = [
        partial(model.rank, [("", example_row(model.schema))]),
        *(partial(model.encode, others[at : at + _ENCODED_TOGETHER]) for at in together),
        *(partial(model.rank, [row]) for row in reversed(newest)),
    ]
    for step in work:
        try:
            step()
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(f"model {model.version} cannot rank: {error!r}") from error
        pace.rest()
    model.forget("")


def take_apart(model: ServingModel) -> None:
    """Free what a model that serves no more keeps of users, a little at a time: at once would hold up all threads."""
    while model.forget_some(_FREED_TOGETHER):
        time.sleep(PAUSE_S)


def example_row(schema: FeatureSchema) -> UserRow:
    """A row with a list and an event, made up."""
    items = [Candidate(item_id=f"warm-up-{number}") for number in range(10)]
    event = Interaction(user_id="-", item_id="warm-up-1", action="view", event_id="warm-up", ts=1)
    listed = CandidateList(user_id="-", request_id="warm-up", items=items, ts=2)
    row = apply_input(EMPTY, event, Position(VIEWS, 0, 0, 1), schema)
    return apply_input(row, listed, Position(CANDIDATES, 0, 0, 2), schema)


def check_inputs(manifest: Manifest, serves: ServingModel | Manifest) -> None:
    """Rows, decoders and text vectors of a running worker are of one schema and one encoder.

    Raises:
        OtherInputs: the bundle is of another schema or encoder than what serves.
        BundleError: its schema would give what rows hold another meaning.
    """
    refuse_renumbered(manifest, serves)
    if manifest.schema.hash != serves.schema.hash:
        found = "; ".join(differences(manifest.schema, serves.schema))
        raise OtherInputs(
            f"{manifest.version} has another schema than {serves.version}, which serves: {found}. A worker that starts "
            "anew takes it: docs/operations.md, Change the schema"
        )
    if manifest.encoder != serves.encoder:
        raise OtherInputs(
            f"{manifest.version} expects texts encoded by {manifest.encoder}, what serves has {serves.encoder}'s; "
            "a worker that starts anew takes it"
        )


def refuse_renumbered(manifest: Manifest, served: ServingModel | Manifest) -> None:
    """See that rows which were written under one version mean the same to another.

    Raises:
        BundleError: an action has another number in it.
    """
    why = renumbered(manifest.schema, served.schema)
    if why is not None:
        raise BundleError(f"{manifest.version} must not serve after {served.version}: {why}", "schema")


def _check_numbers(manifest: Manifest, settings: WorkerSettings) -> None:
    """Every version that was served here wrote rows: their meaning stays."""
    for version in local_versions(settings):
        try:
            before = read_manifest(copies(settings) / version)
        except BundleError:
            continue  # a broken copy says nothing
        refuse_renumbered(manifest, before)
