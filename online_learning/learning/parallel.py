"""One training step on several processes: each takes a slice of the batch, and all step by the joint gradient.

The first process (rank 0) reads the stream, computes features and publishes; the others only hold the same weights.
Started by `torchrun`, which says through the environment who is who.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed


class Parallel(Protocol):
    """What a step asks of the other processes."""

    def share(self, parts: Sequence[Any]) -> Any:
        """Rank 0 gives each process its part, the others give none; what comes back is this process's."""

    def total(self, counts: Tensor) -> Tensor:
        """The sum of a small tensor over all processes."""

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Replaces every gradient, dense or sparse, by its sum over all processes."""

    @property
    def size(self) -> int:
        """How many processes there are."""


class Alone:
    """There is one process: nothing to share."""

    size = 1

    def share(self, parts: Sequence[Any]) -> Any:
        """The one part."""
        return parts[0]

    def total(self, counts: Tensor) -> Tensor:
        """The same."""
        return counts

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Nothing to add."""


class Group:
    """The processes that torchrun started."""

    def __init__(self) -> None:
        """Joins them: over NCCL where there is a GPU for each, else over gloo."""
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend)
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._objects: Any = distributed.new_group(backend="gloo")

    def share(self, parts: Sequence[Any]) -> Any:
        """Rank 0's parts, one a process, to each its own; the others give none."""
        mine: list[Any] = [None]
        distributed.scatter_object_list(mine, list(parts) if self.rank == 0 else None, group=self._objects)
        return mine[0]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        box = [value]
        distributed.broadcast_object_list(box, group=self._objects)
        return box[0]

    def total(self, counts: Tensor) -> Tensor:
        """The sum over all processes."""
        distributed.all_reduce(counts)
        return counts

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Dense gradients as one buffer; of sparse ones the rows that any process touched."""
        dense = [weight for weight in parameters if not _is_sparse(weight)]
        for weight in dense:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        if dense:
            flat = torch.cat([weight.grad.flatten() for weight in dense if weight.grad is not None])
            distributed.all_reduce(flat)
            for weight, summed in zip(dense, torch.split(flat, [weight.numel() for weight in dense]), strict=True):
                weight.grad = summed.view_as(weight).clone()
        for weight in parameters:
            if _is_sparse(weight):
                weight.grad = self._sparse_sum(weight)

    def close(self) -> None:
        """Leave the group."""
        distributed.destroy_process_group()

    def _sparse_sum(self, weight: Tensor) -> Tensor:
        mine: tuple[np.ndarray, np.ndarray] | None = None
        if weight.grad is not None:
            gradient = weight.grad.coalesce()
            mine = gradient.indices().cpu().numpy(), gradient.values().cpu().numpy()
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, mine, group=self._objects)
        rows = np.concatenate([part[0] for part in every if part is not None], axis=1)
        values = np.concatenate([part[1] for part in every if part is not None])
        return torch.sparse_coo_tensor(
            torch.from_numpy(rows), torch.from_numpy(values), weight.shape, device=weight.device
        ).coalesce()


def _is_sparse(weight: Tensor) -> bool:
    return bool(getattr(weight, "row_wise", False))


def join_group() -> Group | None:
    """The group that torchrun started this process in; None where it was started alone."""
    return Group() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


def device() -> str:
    """The GPU of this process where there is one, else `cpu`."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
