"""A trainer written down and taken up again: arrays and JSON values, items named by the hash of their id.

Item indexes are the process's own, so everything that is kept by index is kept in the order of `rows.items`. Items of
which there is nothing to keep are left out: those that have expired do not make every later checkpoint larger.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from online_learning.learning.optimisation import Optimisation
from online_learning.online_recipe import Mode
from online_learning.releases.anchors import Anchor
from online_learning.trainer.checkpoint import CheckpointError, TrainerState
from online_learning.trainer.trainer import Trainer
from ranker.contracts.ids import hash_id
from ranker.items.catalog import Catalog, grown

log = logging.getLogger(__name__)

_MOMENTS = ("exp_avg", "exp_avg_sq")


def capture(trainer: Trainer) -> TrainerState:
    """Everything that the trainer is, between two calls of `learn`. The arrays are copies."""
    return TrainerState(
        arrays={**_rows(trainer), **_dense(trainer.optimisation), **_memory(trainer)},
        facts=_facts(trainer),
        replay=tuple(trainer.replay.entries),
    )


def belongs(trainer: Trainer, state: TrainerState) -> bool:
    """Whether `restore` would take the state: it is of the trainer's model config and feature schema."""
    model, mine = state.facts["model"], _identity(trainer)
    return bool(model | {"schema": ""} == mine | {"schema": ""} and trainer.schema.named(model["schema"]))


def take_over(trainer: Trainer, state: TrainerState) -> None:
    """Of a trainer of another schema or other sizes: what was erased and refused, and where it had read to.

    Examples that the version to start from says it knows of end earlier, since its training did: those between are
    learned from again, so what is known of them is left behind.
    """
    facts, arrays = state.facts, state.arrays
    _restore_forgotten(trainer, arrays)
    trainer.refused.restore(refused_of(state))
    trainer.offsets = {**facts["offsets"], **trainer.origin.offsets}
    trainer.sequence = max(trainer.sequence, facts.get("sequence", 0))
    if not trainer.origin.offsets:
        trainer.known.restore(arrays["known"].tolist())


def restore(trainer: Trainer, state: TrainerState) -> None:
    """Make the trainer what it was; its versions in service and its metrics stay as they are.

    Where it was in another mode than it is asked to be in now, it goes on in that one from the weights that it had.

    Raises:
        CheckpointError: the state is of another model config or feature schema.
    """
    facts = state.facts
    if not belongs(trainer, state):
        raise CheckpointError(f"the checkpoint is of {facts['model']}; this trainer's model is {_identity(trainer)}")
    arrays = state.arrays
    indexes = indexes_of(trainer.catalog, arrays["rows.items"])
    trainer.optimisation.use(Mode(facts["mode"]))
    trainer.finetuned = facts["finetuned"]
    _restore_rows(trainer, arrays, indexes)
    _restore_dense(trainer.optimisation, arrays)
    _restore_memory(trainer, state)
    trainer.rng.bit_generator.state = facts["rng"]
    torch.set_rng_state(torch.from_numpy(arrays["torch.rng"].copy()))
    trainer.versions.unsent.restore(
        {version: arrays[f"moved.{at}"] for at, version in enumerate(facts["bases"])}, indexes
    )
    trainer.versions.made = list(facts["made"])
    trainer.versions.returned = facts.get("returned") or trainer.versions.returned
    trainer.versions.anchors.restore(anchors_of(state), {})
    trainer.offsets = dict(facts["offsets"])
    trainer.trained, trainer.bundled = facts["trained"], facts["bundled"]
    trainer.learned_until = facts["learned_until"]
    trainer.since_starter = facts.get("since_starter")  # one of an earlier release goes on at the pace it had
    # Never back to what was sent since; checkpoints of earlier releases have none.
    trainer.sequence = max(trainer.sequence, facts.get("sequence", 0))
    if trainer.finetuned is None and trainer.optimisation.mode is not trainer.online.mode:
        log.warning("learning was in mode %s and goes on in %s", trainer.optimisation.mode, trainer.online.mode)
        trainer.optimisation.use(trainer.online.mode)


def anchors_of(state: TrainerState) -> dict[str, Anchor]:
    """The anchors, and how the trainer had compared with them; none in checkpoints of earlier releases."""
    return msgspec.convert(state.facts.get("anchors", {}), dict[str, Anchor])


def refused_of(state: TrainerState) -> list[int]:
    """The hashes of the ids of examples that are never learned from. Checkpoints of earlier releases hold the ids."""
    if "refused" in state.arrays:
        return list(state.arrays["refused"].tolist())
    return [hash_id(example_id) for example_id in state.facts["refused"]]


def indexes_of(catalog: Catalog, items: np.ndarray) -> np.ndarray:
    """int64 indexes of items by their hashes; those that the catalogue has not met get one."""
    return np.array([catalog.add(item) for item in items.tolist()], np.int64)


def _identity(trainer: Trainer) -> dict[str, Any]:
    return {"config": trainer.origin.config.to_dict(), "schema": trainer.schema.hash, "encoder": trainer.origin.encoder}


def _facts(trainer: Trainer) -> dict[str, Any]:
    return {
        "model": _identity(trainer),
        "mode": str(trainer.optimisation.mode),
        "finetuned": trainer.finetuned,
        "first": trainer.versions.first.version,
        "made": list(trainer.versions.made),
        "returned": trainer.versions.returned,
        "anchors": msgspec.to_builtins(trainer.versions.anchors.by_span),
        "bases": trainer.versions.unsent.versions,
        "offsets": dict(trainer.offsets),
        "trained": trainer.trained,
        "bundled": trainer.bundled,
        "since_starter": trainer.since_starter,
        "learned_until": trainer.learned_until,
        "sequence": trainer.sequence,
        "replay_seen": trainer.replay.seen,
        "floor": trainer.counts.floor,
        "rng": trainer.rng.bit_generator.state,
    }


def _rows(trainer: Trainer) -> dict[str, np.ndarray]:
    tables, count = trainer.learner.tables, trainer.catalog.count
    tables.sync()
    trainer.learner.make_room(count)
    weight = trainer.learner.items.ids.weight
    moments = trainer.optimisation.moments(weight)
    rows = {
        "rows.ids": _array(weight),
        "rows.touched_at": grown(trainer.touched_at, count),
        **{f"rows.{name}": getattr(tables, name) for name in ("statistics", "neighbours", "strengths")},
        **{f"rows.{name}": value for name, value in moments.items() if value.ndim},
        **{f"moved.{at}": moved for at, moved in enumerate(trainer.versions.unsent.state(count).values())},
    }
    kept = np.zeros(count, bool)
    for array in rows.values():
        kept |= (array[:count] != 0).reshape(count, -1).any(axis=1)
    kept[0] = False  # stands for no item
    return {
        "rows.items": trainer.catalog.hashes[:count][kept],
        **{name: array[:count][kept] for name, array in rows.items()},
        **{f"rows.{name}": value for name, value in moments.items() if not value.ndim},
    }


def _restore_rows(trainer: Trainer, arrays: Mapping[str, np.ndarray], indexes: np.ndarray) -> None:
    tables, learner = trainer.learner.tables, trainer.learner
    tables.sync()
    learner.make_room(trainer.catalog.count)
    for name in ("statistics", "neighbours", "strengths"):
        table = getattr(tables, name)
        table[:] = 0
        table[indexes] = arrays[f"rows.{name}"]
    weight = learner.items.ids.weight
    with torch.no_grad():
        weight.copy_(torch.from_numpy(_spread(arrays["rows.ids"], indexes, len(weight))))
    moments = {name: arrays[f"rows.{name}"] for name in (*_MOMENTS, "step") if f"rows.{name}" in arrays}
    spread = {name: _spread(value, indexes, len(weight)) if value.ndim else value for name, value in moments.items()}
    trainer.optimisation.set_moments(weight, spread)
    trainer.touched_at = _spread(arrays["rows.touched_at"], indexes, trainer.catalog.count)


def _spread(values: np.ndarray, indexes: np.ndarray, rows: int) -> np.ndarray:
    """Values at their indexes of an array with so many rows, the others zero."""
    spread = np.zeros((rows, *values.shape[1:]), values.dtype)
    spread[indexes] = values
    return spread


def _dense(optimisation: Optimisation) -> dict[str, np.ndarray]:
    arrays = {}
    for name, weight in optimisation.named_dense().items():
        arrays[f"dense.{name}"] = _array(weight).copy()
        for kind, value in optimisation.moments(weight).items():
            arrays[f"dense.{name}/{kind}"] = value
    return arrays | {f"dense.{name}/average": _array(value).copy() for name, value in optimisation.average.items()}


def _restore_dense(optimisation: Optimisation, arrays: Mapping[str, np.ndarray]) -> None:
    for name, weight in optimisation.named_dense().items():
        if f"dense.{name}" not in arrays:
            continue  # a part that the model has got since the checkpoint: it starts as in a new one
        with torch.no_grad():
            weight.copy_(torch.from_numpy(arrays[f"dense.{name}"].copy()))
        kinds = [kind for kind in (*_MOMENTS, "step") if f"dense.{name}/{kind}" in arrays]
        optimisation.set_moments(weight, {kind: arrays[f"dense.{name}/{kind}"] for kind in kinds})
    kept = {name: arrays.get(f"dense.{name}/average") for name in optimisation.average}
    optimisation.set_average(
        {
            name: optimisation.average[name] if value is None else torch.from_numpy(value.copy())
            for name, value in kept.items()
        }
    )


def _memory(trainer: Trainer) -> dict[str, np.ndarray]:
    return {
        "known": trainer.known.state(),
        "refused": trainer.refused.state(),
        "forgotten.users": np.array(list(trainer.forgotten), np.int64),
        "forgotten.until": np.array(list(trainer.forgotten.values()), np.int64),
        "torch.rng": torch.get_rng_state().numpy().copy(),
        **{f"counts.{name}": array for name, array in trainer.counts.state().items()},
    }


def _restore_memory(trainer: Trainer, state: TrainerState) -> None:
    arrays, facts = state.arrays, state.facts
    trainer.replay.restore(facts["replay_seen"], state.replay)
    trainer.known.restore(arrays["known"].tolist())
    trainer.refused.restore(refused_of(state))
    _restore_forgotten(trainer, arrays)
    counts = {name.removeprefix("counts."): array for name, array in arrays.items() if name.startswith("counts.")}
    trainer.counts.restore(counts, facts["floor"])


def _restore_forgotten(trainer: Trainer, arrays: Mapping[str, np.ndarray]) -> None:
    trainer.forgotten = OrderedDict(
        zip(arrays["forgotten.users"].tolist(), arrays["forgotten.until"].tolist(), strict=True)
    )


def _array(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().cpu().numpy()
    return array
