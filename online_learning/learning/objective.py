"""What is minimised: the choice from the list for every declared positive action, and the next item of the history.

Each term comes as a value an example (or a candidate, or an event), so that several processes can divide their sums by
the counts of all of them and get exactly the gradient of the joint batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ranker.network.transformer import MASKED, History, Linear, ModelConfig

NEWEST = 8


class Choice(Protocol):
    """What was chosen from a list: its place, None where nothing was, and for which positive action."""

    @property
    def chosen(self) -> int | None:
        """Place in the list."""

    @property
    def head(self) -> int:
        """Number of the positive action, in the schema's order."""


class Targets(NamedTuple):
    """What happened to each of B lists."""

    drew: Tensor  # bool [B] whether anything was chosen
    chosen: Tensor  # int64 [B] place in the list, 0 where nothing was
    heads: Tensor  # int64 [B] which positive action

    @classmethod
    def of(cls, examples: Sequence[Choice], device: str = "cpu") -> Self:
        """The targets of examples, in their order."""
        return cls(
            torch.tensor([example.chosen is not None for example in examples], device=device),
            torch.tensor([example.chosen or 0 for example in examples], device=device),
            torch.tensor([example.head for example in examples], device=device),
        )


def ranking_terms(
    logits: Tensor, real: Tensor, targets: Targets, considered: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The choice as a softmax over the list, and each probability on its own.

    An example is one draw: an item and an action, or nothing. So the second term holds every head of every candidate
    to whether the draw was that item with that action; without it scores would rank and not be probabilities.

    Args:
        logits: [B, C, A].
        real: bool [B, C], which places hold a candidate.
        targets: what happened.
        considered: bool [B, C], which candidates the softmax is over (the chosen one among them); all where None.

    Returns:
        Cross entropies of the lists that drew something [those], and binary ones of candidates and heads [any, A].
    """
    rows = torch.arange(len(logits), device=logits.device)
    happened = logits[rows, :, targets.heads]  # [B, C]
    among = real if considered is None else real & considered
    listwise = F.cross_entropy(
        happened.masked_fill(~among, MASKED)[targets.drew], targets.chosen[targets.drew], reduction="none"
    )
    target = torch.zeros_like(logits)
    target[rows, targets.chosen, targets.heads] = targets.drew.float()
    binary = F.binary_cross_entropy_with_logits(logits[real], target[real], reduction="none")
    return listwise, binary


class NextItemLoss(nn.Module):
    """Self-supervised: each event's encoding has to find the next event's item among the items of the batch.

    A sampled softmax (Y. Bengio and J.-S. Senecal, 2008) with the batch as the sample, as in two-tower retrieval
    (X. Yi et al., RecSys 2019); an item counts once however often the batch holds it. Of each history the newest
    `NEWEST` steps are asked: a user's earlier ones were, when they were new. The head itself stays with the trainer:
    what it teaches is the encoder and the item rows.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.query = Linear(config.d, config.d, bias=False)

    def forward(self, history: History, encodings: Tensor) -> Tensor:
        """Histories and their encodings [B, L, d] -> cross entropies [steps], of every event that has a next one."""
        step = torch.arange(history.item.shape[1], device=history.item.device)
        length = history.length[:, None]
        follows = ((step < length) & (step >= length - NEWEST))[:, 1:]  # [B, L-1]: event l+1 is real, and new enough
        asked = self.query(encodings[:, :-1][follows])  # [steps, d]
        items, vectors = history.item[:, 1:][follows], history.item_vec[:, 1:][follows]
        distinct, place = torch.unique(items, return_inverse=True)
        first = torch.full((len(distinct),), len(items), device=items.device)
        first = first.scatter_reduce(0, place, torch.arange(len(items), device=items.device), "amin")
        scores = asked @ vectors[first].T / vectors.shape[1] ** 0.5  # [steps, distinct]
        return F.cross_entropy(scores, place, reduction="none")
