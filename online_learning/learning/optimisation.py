"""One step of gradient descent from the stream: what may change, how rows and dense weights move, and who steps along.

Item rows step by SparseAdam, which touches the rows of the batch alone: a table of 100,000 rows costs what a batch
costs. Dense weights, or low-rank adapters of them (E. Hu et al., "LoRA", 2021, through peft), step by AdamW.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from online_learning.learning.learner import Learner, TrainingExample, candidates_of, set_rate
from online_learning.learning.objective import NextItemLoss, Targets, ranking_terms
from online_learning.learning.pace import LearningPace, pace_of
from online_learning.learning.parallel import Alone, Parallel
from online_learning.online_recipe import Mode, OnlineRecipe
from ranker.items.tables import TableArrays
from ranker.network.transformer import Linear, Ranker

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

_ADAPTER = "default"
_ROWS = "ids.weight"


class Stepped(NamedTuple):
    """What a step did. Where it is not `finite` nothing has changed."""

    loss: float
    finite: bool
    rows: np.ndarray  # int64 catalogue indexes of the item rows that moved
    moved: np.ndarray  # float32, how far each did


class Optimisation:
    """The learner's weights under the optimisers that the mode asks for."""

    def __init__(self, learner: Learner, online: OnlineRecipe, parallel: Parallel | None = None) -> None:
        self.learner, self.online = learner, online
        self.parallel = parallel or Alone()
        self.next_item = NextItemLoss(learner.config).to(learner.device)
        learner.items.ids.sparse = True
        self._adapters: LoraModel | None = None
        self._average: dict[str, Tensor] = {}
        self._told = False  # whether the other processes know of every change that was no step
        self._rows: torch.optim.Optimizer = torch.optim.SparseAdam([learner.items.ids.weight])
        self.use(online.mode)

    def use(self, mode: Mode) -> None:
        """Go on in another mode: adapters are merged or made, and the dense optimiser starts anew.

        It goes on from the averaged weights.
        """
        self.mode = mode
        for name, weight in self.named_dense().items():
            if name in self._average:
                weight.data.copy_(self._average[name])
        if self._adapters is not None:
            self.learner.model = _merged(self._adapters, copied=False)
            self._adapters = None
        self.learner.model.requires_grad_(mode is Mode.FULL)
        if mode is Mode.ADAPTERS:
            self._adapters = _adapted(self.learner.model, self.online.adapter_rank)
        self.learner.items.categories.requires_grad_(mode is Mode.FULL)
        self.learner.items.text.requires_grad_(mode is Mode.FULL)
        dense = [weight for weight in self.named_dense().values() if weight.requires_grad]
        groups = [
            {
                "params": [weight for weight in dense if weight.ndim > 1],
                "weight_decay": self.learner.recipe.weight_decay,
            },
            {"params": [weight for weight in dense if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        self._dense: torch.optim.Optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
        self.learner.optimizers = [self._dense, self._rows]
        self._average = {
            name: weight.detach().clone() for name, weight in self.named_dense().items() if weight.requires_grad
        }
        self._told = False

    def load(self, weights: Mapping[str, Tensor], tables: TableArrays, indexes: Sequence[int]) -> None:
        """Start from other weights, with no memory of earlier steps; the tables' rows stand at these indexes."""
        self._average = {}
        self.use(Mode.FULL)
        learner = self.learner
        learner.make_room(learner.catalog.count)
        learner.model.load_state_dict(dict(weights))
        with torch.no_grad():
            learner.items.ids.weight.zero_()
            learner.items.ids.weight[list(indexes)] = torch.from_numpy(tables.ids).to(learner.device)
            learner.items.categories.weight.copy_(torch.from_numpy(tables.categories))
            learner.items.text.copy_(torch.from_numpy(tables.text))
        self._rows.state.clear()
        self._average = {}
        self.use(self.online.mode)

    def named_dense(self) -> dict[str, nn.Parameter]:
        """Every parameter but the item rows, by a name that is the same in the next process."""
        return {
            **{f"model.{name}": weight for name, weight in self.learner.model.named_parameters()},
            **{f"items.{name}": weight for name, weight in self.learner.items.named_parameters() if name != _ROWS},
            **{f"next_item.{name}": weight for name, weight in self.next_item.named_parameters()},
        }

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the dense weights are their moving averages: what is tested, and published.

        Steps of one batch each are noisy; their average is not (B. Polyak and A. Juditsky, 1992).
        """
        weights = self.named_dense()
        steps = {name: weights[name].data for name in self._average}
        for name, average in self._average.items():
            weights[name].data = average
        try:
            yield
        finally:
            for name, value in steps.items():
                weights[name].data = value

    @property
    def average(self) -> Mapping[str, Tensor]:
        """The moving averages of what learns, by the names of `named_dense`."""
        return self._average

    @property
    def finite(self) -> bool:
        """Whether all weights are, the items' rows included."""
        weights = [*self.named_dense().values(), self.learner.items.ids.weight, *self._average.values()]
        return all(bool(torch.isfinite(weight).all()) for weight in weights)

    def merged_weights(self) -> dict[str, Tensor]:
        """A copy of the averaged weights as `Ranker.state_dict()` has them, adapters added in; on the CPU."""
        with self.averaged():
            model = self.learner.model if self._adapters is None else _merged(self._adapters, copied=True)
            return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def moments(self, weight: Tensor) -> dict[str, np.ndarray]:
        """The optimiser's state of a parameter, by its own names; nothing before the first step."""
        found = {**self._dense.state.get(weight, {}), **self._rows.state.get(weight, {})}
        return {name: torch.as_tensor(value).detach().cpu().numpy().copy() for name, value in found.items()}

    def set_moments(self, weight: Tensor, moments: Mapping[str, np.ndarray]) -> None:
        """The inverse of `moments`; the parameter's state is empty where nothing is given."""
        is_rows = weight is self.learner.items.ids.weight
        state = (self._rows if is_rows else self._dense).state
        state.pop(weight, None)
        self._told = False
        if moments:
            # SparseAdam counts its steps in an int, AdamW in a tensor.
            state[weight] = {
                name: int(value) if is_rows and not value.ndim else torch.from_numpy(np.array(value)).to(weight.device)
                for name, value in moments.items()
            }

    def set_average(self, average: Mapping[str, Tensor]) -> None:
        """Go on from these averages."""
        self._average = {name: value.clone().to(self.learner.device) for name, value in average.items()}
        self._told = False

    def clear_rows(self, indexes: np.ndarray) -> None:
        """These rows start from nothing, in the optimiser too: int64 catalogue indexes."""
        rows = self.learner.items.ids.weight
        places = torch.from_numpy(indexes).to(self.learner.device)
        with torch.no_grad():
            rows[places] = 0
            for value in self._rows.state.get(rows, {}).values():
                if isinstance(value, Tensor) and value.shape == rows.shape:
                    value[places] = 0
        self._told = False

    def step(
        self,
        examples: Sequence[TrainingExample],
        scale: float = 1.0,
        considered: np.ndarray | None = None,
        share: float = 1.0,
        pace: LearningPace | None = None,
    ) -> Stepped:
        """One step on a batch.

        Args:
            examples: the batch.
            scale: of the learning rates.
            considered: bool [B, C], the candidates that the softmax is over; all where None.
            share: of a full batch that this one is. Dense weights, and their average, move by that share of a step: how
                far a hundred examples move them does not depend on how many came at once. Each item's row learns from
                its own examples, which are few in any batch, and takes whole steps.
            pace: of the dense weights; the settled one where None.
        """
        arrays = self.learner.collate([example.inputs for example in examples])
        arrays |= Targets.of(examples, self.learner.device)._asdict()
        if considered is not None:
            arrays["considered"] = torch.from_numpy(considered).to(self.learner.device)
        rows, pace = len(self.learner.items.ids.weight), pace or pace_of(self.online, None)
        order = {"arrays": arrays, "scale": scale, "share": share, "pace": pace, "rows": rows}
        if self.parallel.size == 1:
            return self._take_part(order)
        if not self._told:
            self._told = True
            self.parallel.share([{"state": self._state()}] * self.parallel.size)
        parts = [{**order, "arrays": part} for part in split_parameters(arrays, self.parallel.size)]
        return self._take_part(self.parallel.share(parts))

    def assist(self) -> None:
        """What every process but the first does, until it is dismissed: take part in each step."""
        while (order := self.parallel.share(())) is not None:
            if "state" in order:
                self._take_over(order["state"])
            else:
                self._take_part(order)

    def dismiss(self) -> None:
        """The first process has no more steps for the others."""
        if self.parallel.size > 1:
            self.parallel.share([None] * self.parallel.size)

    def _state(self) -> dict[str, Any]:
        weights = {**self.named_dense(), _ROWS: self.learner.items.ids.weight}
        return {
            "mode": self.mode,
            "weights": {name: weight.detach().cpu() for name, weight in weights.items()},
            "moments": {name: self.moments(weight) for name, weight in weights.items()},
            "average": {name: value.cpu() for name, value in self._average.items()},
        }

    def _take_over(self, state: dict[str, Any]) -> None:
        """Be what the first process is."""
        learner, rows = self.learner, len(state["weights"][_ROWS])
        if rows != len(learner.items.ids.weight):
            learner.items.ids = nn.Embedding(rows, learner.config.d, padding_idx=0, sparse=True).to(learner.device)
            self._rows = torch.optim.SparseAdam([learner.items.ids.weight])
        self.use(state["mode"])
        for name, weight in {**self.named_dense(), _ROWS: learner.items.ids.weight}.items():
            with torch.no_grad():
                weight.copy_(state["weights"][name])
            self.set_moments(weight, state["moments"][name])
        self.set_average(state["average"])

    def _take_part(self, order: dict[str, Any]) -> Stepped:
        """This process's share of a step; every process ends with the same weights."""
        learner = self.learner
        if order["rows"] > len(learner.items.ids.weight):
            learner.make_room(order["rows"] // 2)  # which doubles, as it did in the first process
        learner.items.ids.weight.row_wise = True  # type: ignore[attr-defined]  # read by `parallel`
        scale, share, pace = order["scale"], order["share"], order["pace"]
        rates = self.online.learning_rate * pace.rate * share, self.online.row_rate
        for optimizer, rate in zip(learner.optimizers, rates, strict=True):
            set_rate(optimizer, rate * scale)
            optimizer.zero_grad(set_to_none=True)
        learner.model.train()
        learner.items.train()
        arrays = order["arrays"]
        loss = self._loss({name: value.to(learner.device) for name, value in arrays.items()} if arrays else None)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return self._apply(float(self.parallel.total(loss.detach().clone())), pace.averaging**share)

    def _loss(self, arrays: dict[str, Tensor] | None) -> Tensor:
        """This process's part of the joint batch's mean loss."""
        device = self.learner.device
        terms = [torch.zeros(0, device=device)] * 3 if arrays is None else self._terms(arrays)
        lists = 0 if arrays is None else len(arrays["drew"])  # the binary term is a sum over a list's candidates
        counts = torch.tensor([float(len(terms[0])), float(lists), float(len(terms[2]))], device=device)
        every = self.parallel.total(counts).clamp(min=1)
        weights = (1.0, self.learner.recipe.calibration, self.online.next_item)
        return torch.stack([w * term.sum() / n for w, term, n in zip(weights, terms, every, strict=True)]).sum()

    def _terms(self, arrays: dict[str, Tensor]) -> list[Tensor]:
        slate, history = self.learner.read(arrays)
        encodings = self.learner.model.encode(history)
        logits = self.learner.model.score(slate, history, encodings)
        targets = Targets(arrays["drew"], arrays["chosen"], arrays["heads"])
        listwise, binary = ranking_terms(logits, candidates_of(slate), targets, arrays.get("considered"))
        return [listwise, binary, self.next_item(history, encodings)]

    @torch.no_grad()
    def _follow_average(self, kept: float) -> None:
        weights = self.named_dense()
        for name, average in self._average.items():
            average.lerp_(weights[name].detach(), 1 - kept)

    def _apply(self, loss: float, kept: float) -> Stepped:
        """Clip and step; a gradient or a loss that is not finite changes nothing. `kept`: the average's share."""
        nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows = self.learner.items.ids.weight
        dense = [weight for group in self._dense.param_groups for weight in group["params"]]
        self.parallel.add_up([*dense, rows])
        if rows.grad is not None:
            rows.grad = rows.grad.coalesce()
        gradients = [weight.grad for weight in dense if weight.grad is not None]
        if rows.grad is not None:
            gradients.append(rows.grad.values())
        if not gradients:
            return Stepped(loss, np.isfinite(loss).item(), *nothing)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        if not (np.isfinite(loss) and bool(torch.isfinite(norm))):
            return Stepped(loss, False, *nothing)
        factor = self.learner.recipe.clip / max(float(norm), self.learner.recipe.clip)
        for gradient in gradients:
            gradient.mul_(factor)
        self._dense.step()
        self._follow_average(kept)
        if rows.grad is None:
            return Stepped(loss, True, *nothing)
        touched = rows.grad.indices()[0]
        before = rows.detach()[touched].clone()
        self._rows.step()
        moved = torch.linalg.vector_norm(rows.detach()[touched] - before, dim=1)
        return Stepped(loss, True, touched.cpu().numpy(), moved.cpu().numpy())


def split_parameters(arrays: dict[str, Tensor], parts: int) -> list[dict[str, Tensor] | None]:
    """A batch in so many parts of nearly equal size; None for a process that the batch is too small for."""
    size = len(arrays["drew"])
    edges = np.linspace(0, size, parts + 1).astype(int)
    return [
        {name: value[low:high].cpu() for name, value in arrays.items()} if high > low else None
        for low, high in pairwise(edges)
    ]


def _adapted(model: Ranker, rank: int) -> LoraModel:
    """Low-rank adapters beside every dense layer of the model, which is changed in place."""
    from peft import LoraConfig  # noqa: PLC0415  # it imports transformers, seconds that only this mode needs
    from peft.tuners.lora import LoraModel  # noqa: PLC0415

    names = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=[], target_parameters=names)
    return LoraModel(model, {_ADAPTER: config}, _ADAPTER)


def _merged(adapters: LoraModel, *, copied: bool) -> Ranker:
    """The model with its adapters added into the weights; the adapted one stays as it is where `copied`."""
    merged: Ranker = (copy.deepcopy(adapters) if copied else adapters).merge_and_unload()
    return merged
