"""From settings, a bundle and the newest checkpoint to a trainer that goes on where the last one ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from online_learning.learning.learner import Learner
from online_learning.learning.optimisation import Optimisation
from online_learning.learning.parallel import Group, device
from online_learning.online_recipe import OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.plan import starts_over
from online_learning.releases.versions import Origin
from online_learning.settings import TrainerSettings
from online_learning.trainer.checkpoint import TrainerState, newest_checkpoint
from online_learning.trainer.state import anchors_of, belongs, restore, take_over
from online_learning.trainer.trainer import Trainer
from ranker.contracts.errors import BundleError
from ranker.contracts.schema import unlike
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables
from ranker.rollout.stages import Stages

log = logging.getLogger(__name__)

_SECOND, _DAY = 1000, 86_400_000

#: Gives a version of the registry.
Fetch = Callable[[str], Origin]


def online_of(settings: TrainerSettings, recipe: Recipe) -> OnlineRecipe:
    """How to learn, in the trainer's own terms; what the settings leave open is as in the recipe of what serves."""
    return OnlineRecipe(
        mode=settings.mode,
        learning_rate=settings.dense_rate,
        row_rate=settings.row_rate,
        averaging=settings.averaging,
        id_dropout=recipe.id_dropout if settings.id_dropout is None else settings.id_dropout,
        batch=settings.batch,
        replayed=settings.replayed,
        replay=settings.replay,
        next_item=settings.next_item,
        delta_ms=settings.delta_ms,
        bundle_ms=round(settings.bundle_s * _SECOND),
        bundle_examples=settings.bundle_examples,
        expire_ms=round(settings.expire_days * _DAY),
        finetune_ms=round(settings.finetune_s * _SECOND),
    )


def open_trainer(
    settings: TrainerSettings,
    serving: Origin,
    known: Stages,
    catalog: Catalog,
    fetch: Fetch,
    group: Group | None = None,
) -> Trainer:
    """A trainer at its newest checkpoint, or at what serves where there is none.

    It starts over from what serves where the checkpoint knows nothing of that: someone trained it elsewhere, or rolled
    back to it, while no trainer ran.

    Args:
        settings: of the process.
        serving: the version that serves.
        known: where the versions stand.
        catalog: the items.
        fetch: gets the first version, for comparison.
        group: the other processes.
    """
    if (told := unlike(settings.schema, serving.schema, serving.version)) is not None:
        log.warning("%s", told)
    serving = own_weights(settings, serving)
    state = newest_checkpoint(settings.data)
    first = _alike(state.facts["first"], serving, fetch, "the first model") if state is not None else None
    trainer = Trainer(
        serving,
        catalog,
        online_of(settings, serving.recipe),
        serving.recipe,
        device=device(),
        parallel=group,
        first=first or serving,
    )
    if state is None:
        return trainer
    if not belongs(trainer, state):
        take_over(trainer, state)
        log.warning("the checkpoint is of a model of another kind: starting over from %s", serving.version)
        return trainer
    restore(trainer, state)
    versions = trainer.versions
    if starts_over(known, serving.version, versions.unsent.versions, versions.made, serving.by_trainer):
        log.warning("%s serves, which the checkpoint does not go on from: starting over from it", serving.version)
        trainer.start_over(serving, versions.snapshot(serving.version, serving.weights, serving.tables))
    else:
        _take_up_anchors(trainer, state, fetch)
    return trainer


def own_weights(settings: TrainerSettings, origin: Origin) -> Origin:
    """The version with the actions' weights of the trainer's own [schema], where they differ in no more."""
    own = settings.schema
    if own is None or own.hash != origin.schema.hash:
        return origin
    return msgspec.structs.replace(origin, schema=own)


def assist(settings: TrainerSettings, group: Group) -> None:
    """The life of every process but the first: hold the same weights, take part in each step."""
    origin: Origin = group.broadcast(None)
    tables = ItemTables(origin.tables, Catalog(origin.schema.item_numeric), origin.encoder)
    Optimisation(
        Learner(origin.config, tables, origin.recipe, device()), online_of(settings, origin.recipe), group
    ).assist()
    group.close()


def _take_up_anchors(trainer: Trainer, state: TrainerState, fetch: Fetch) -> None:
    """The checkpoint's anchors, with their versions from the registry; in the place of one that is gone what serves."""
    by_span = anchors_of(state)
    snapshots = {}
    for version in {anchor.version for anchor in by_span.values()} - set(trainer.versions.anchors.versions):
        origin = _alike(version, trainer.origin, fetch, "an anchor")
        if origin is not None:
            snapshots[version] = trainer.versions.as_anchor(origin)
    trainer.versions.anchors.restore(by_span, snapshots)


def _alike(version: str, serving: Origin, fetch: Fetch, what: str) -> Origin | None:
    """An earlier version; None where it is gone, or of another kind than what serves and so cannot rank beside it."""
    try:
        found = fetch(version)
    except BundleError as error:
        log.warning("%s is gone, comparing with what serves instead: %s", what, error)
        return None
    alike = (found.config, found.schema.hash, found.encoder) == (serving.config, serving.schema.hash, serving.encoder)
    return found if alike else None
