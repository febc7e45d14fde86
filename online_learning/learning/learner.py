"""The model as it learns: dense weights, item rows, and one step of gradient descent on a batch of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from online_learning.learning.objective import Targets, ranking_terms
from online_learning.recipe import Recipe
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example
from ranker.contracts.schema import FeatureSchema
from ranker.features.batch import list_arrays, padded
from ranker.features.list import list_inputs
from ranker.features.names import context_names, feature_names
from ranker.features.user import UserInputs, user_inputs
from ranker.items.catalog import Catalog
from ranker.items.tables import STATISTICS, ItemTables, TableArrays, category_buckets, pack_row
from ranker.network.transformer import History, ItemTable, ModelConfig, Ranker, Slate
from ranker.state.codec import decode_row
from ranker.state.row import UserRow

CATEGORY_BUCKETS = 256
_FREE_ROOM = 1024


class TrainingExample(Struct, frozen=True):
    """A list as it was ranked from, and what was chosen: `chosen` is a place in it, None where nothing was."""

    inputs: UserInputs
    chosen: int | None
    head: int = 0  # which positive action, in the schema's order


def shown_statistics(example: Example) -> np.ndarray:
    """float32 [C, len(STATISTICS)] of an example's items, as known when its list was ranked."""
    if example.items:
        return np.array([item.statistics for item in example.items], np.float32)
    return np.frombuffer(example.statistics, "<f4").reshape(-1, len(STATISTICS))


def training_example(
    example: Example, tables: ItemTables, schema: FeatureSchema, row: UserRow | None = None
) -> TrainingExample:
    """An example of the topic as the learner takes it: its features from the state and statistics that it carries.

    Args:
        example: one that holds together.
        tables: item rows, as of now.
        schema: the model's.
        row: its state, where it has been decoded.
    """
    row = decode_row(example.state) if row is None else row
    listed = list_inputs(row, tables.catalog, schema)
    inputs = user_inputs(row, listed, tables, schema, shown_statistics(example))
    if example.outcome is None:
        return TrainingExample(inputs, None)
    heads = [action.name for action in schema.positives]
    return TrainingExample(inputs, listed.place[hash_id(example.outcome.item_id)], heads.index(example.outcome.action))


def model_config(schema: FeatureSchema, **sizes: object) -> ModelConfig:
    """The Transformer's sizes for a schema; `sizes` overrides the defaults."""
    return ModelConfig(
        **{  # type: ignore[arg-type]  # checked by ModelConfig, which refuses what it does not know
            "n_actions": len(schema.actions),
            "n_features": len(feature_names(schema)),
            "n_context": len(context_names(schema)),
            "n_outcomes": len(schema.positives),
            "window": schema.window,
            **sizes,
        }
    )


def empty_arrays(config: ModelConfig, encoder_dim: int, neighbours: int, seed: int = 0) -> TableArrays:
    """Tables that know no item. Texts are reduced by a random orthogonal map, which nearly keeps their angles."""
    rng = np.random.default_rng(seed)
    square = rng.normal(size=(max(encoder_dim, config.text_dim), config.text_dim))
    reduction = np.linalg.qr(square)[0][:encoder_dim]
    return TableArrays(
        items=np.zeros(0, np.int64),
        ids=np.zeros((0, config.d), np.float32),
        statistics=np.zeros((0, len(STATISTICS)), np.float32),
        neighbours=np.zeros((0, neighbours), np.int64),
        strengths=np.zeros((0, neighbours), np.float32),
        categories=np.zeros((CATEGORY_BUCKETS, config.d), np.float32),
        text=np.zeros((config.text_dim, config.d), np.float32),
        reduction=reduction.astype(np.float32),
        reduction_mean=np.zeros(encoder_dim, np.float32),
    )


class Learner:
    """Dense weights and item rows in torch, over the item tables from which features are computed."""

    def __init__(self, config: ModelConfig, tables: ItemTables, recipe: Recipe, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.config, self.tables, self.recipe, self.device = config, tables, recipe, device
        self.model = Ranker(config).to(device)
        self.items = ItemTable(tables.catalog.count + _FREE_ROOM, len(tables.arrays.categories), config).to(device)
        self._load_rows()
        self.items.ids.weight.requires_grad_(recipe.id_dropout < 1)
        self.optimizers: list[torch.optim.Optimizer] = [self._make_optimizer()]

    @property
    def catalog(self) -> Catalog:
        """The items that the rows stand for."""
        return self.tables.catalog

    def parameters(self) -> list[nn.Parameter]:
        """Everything that learns."""
        return [weight for part in (self.model, self.items) for weight in part.parameters() if weight.requires_grad]

    def collate(self, inputs: Sequence[UserInputs]) -> dict[str, Tensor]:
        """Padded lists by the names of `features.batch.list_arrays`, and what else `read` needs, on the device."""
        self.tables.sync()
        self.make_room(self.catalog.count)
        events = max(1, *(len(user.history) for user in inputs))
        arrays = list_arrays(inputs, self.tables, events)
        for name in ("gap", "value"):
            arrays[name] = padded([getattr(user, name) for user in inputs], events)
        for name in ("cand", "hist"):
            arrays[f"{name}_bucket"] = category_buckets(arrays[f"{name}_cat"], len(self.items.categories.weight))
        # What a list keeps may be read by others and is not to be written: torch asks for a copy of it.
        writable = {name: np.require(array, requirements="W") for name, array in arrays.items()}
        return {name: torch.from_numpy(array).to(self.device) for name, array in writable.items()}

    def read(self, arrays: Mapping[str, Tensor]) -> tuple[Slate, History]:
        """What `collate` gave as the model takes it, with the items' vectors of now."""
        candidates = self._vectors(arrays["candidates"], arrays["cand_bucket"], arrays["cand_text"])
        events = self._vectors(arrays["history"], arrays["hist_bucket"], arrays["hist_text"])
        history = History(
            item_vec=events, action=arrays["hist_action"], gap=arrays["gap"], value=arrays["value"],
            age=arrays["hist_age"], item=arrays["hist_item"], category=arrays["hist_cat"], position=arrays["hist_pos"],
            text=arrays["hist_text"], length=arrays["hist_len"],
        )  # fmt: skip
        slate = Slate(
            item_vec=candidates, features=arrays["cand_feat"], item=arrays["cand_item"],
            category=arrays["cand_cat"], position=arrays["cand_pos"], text=arrays["cand_text"],
            length=arrays["cand_len"], covisit=arrays["covisit"], context=arrays["context"],
            said=arrays["said"], words=arrays["words"],
        )  # fmt: skip
        return slate, history

    def logits(self, inputs: Sequence[UserInputs]) -> tuple[Tensor, Tensor]:
        """Logits [B, C, A] of padded lists, and which of [B, C] are candidates."""
        slate, history = self.read(self.collate(inputs))
        return self.model(slate, history), candidates_of(slate)

    def loss(self, examples: Sequence[TrainingExample]) -> Tensor:
        """Softmax over each list for the action that happened, plus a binary loss that keeps scores probabilities."""
        logits, real = self.logits([example.inputs for example in examples])
        listwise, binary = ranking_terms(logits, real, Targets.of(examples, self.device))
        return listwise.sum() / max(1, len(listwise)) + self.recipe.calibration * binary.sum() / len(examples)

    def learn(self, examples: Sequence[TrainingExample], learning_rate: float | None = None) -> float:
        """One step on a batch; the loss before it."""
        self.model.train()
        self.items.train()
        rate = self.recipe.learning_rate if learning_rate is None else learning_rate
        for optimizer in self.optimizers:
            set_rate(optimizer, rate)
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss(examples)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def scores(self, inputs: Sequence[UserInputs]) -> list[np.ndarray]:
        """float32 [C, A] logits of each list by the current weights."""
        self.model.eval()
        self.items.eval()
        logits, _ = self.logits(inputs)
        return [line[: len(user.candidates)].cpu().numpy() for line, user in zip(logits, inputs, strict=True)]

    def table_arrays(self, known: np.ndarray | None = None) -> TableArrays:
        """Item rows as they go into a bundle: those at the catalogue indexes `known`, or of every item."""
        known = np.arange(1, self.catalog.count) if known is None else known
        learned = self.tables
        learned.sync()
        self.make_room(self.catalog.count)
        with torch.no_grad():
            return TableArrays(
                items=self.catalog.hashes[known].copy(),
                ids=self.items.ids.weight[torch.from_numpy(known).to(self.device)].cpu().numpy(),
                statistics=learned.statistics[known].copy(),
                neighbours=learned.neighbours[known].copy(),
                strengths=learned.strengths[known].copy(),
                categories=self.items.categories.weight.cpu().numpy().copy(),
                text=self.items.text.cpu().numpy().copy(),
                reduction=learned.arrays.reduction,
                reduction_mean=learned.arrays.reduction_mean,
            )

    def packed_rows(self, indexes: np.ndarray) -> dict[str, bytes]:
        """Rows as they go into a delta, by the hash of the item's id: int64 catalogue indexes."""
        tables = self.tables
        tables.sync()
        self.make_room(self.catalog.count)  # an item may have moved that no step has met yet
        ids = self.items.ids.weight.detach()[torch.from_numpy(indexes)].cpu().numpy()
        return {
            str(self.catalog.hashes[index]): pack_row(
                ids[at], tables.statistics[index], tables.neighbours[index], tables.strengths[index]
            )
            for at, index in enumerate(indexes.tolist())
        }

    def make_room(self, rows: int) -> None:
        """Rows for items that have come since; the optimisers keep what they know of the others."""
        have = len(self.items.ids.weight)
        if rows <= have:
            return
        old = self.items.ids
        grown = nn.Embedding(2 * rows, self.config.d, padding_idx=0, sparse=old.sparse).to(self.device)
        with torch.no_grad():
            grown.weight.zero_()
            grown.weight[:have] = old.weight
        self.items.ids = grown
        for optimizer in self.optimizers:
            _replace_parameter(optimizer, old.weight, grown.weight)

    def _vectors(self, indexes: Tensor, buckets: Tensor, text: Tensor) -> Tensor:
        if self.model.training and self.recipe.id_dropout:
            # An item is hidden as a whole.
            hidden = torch.rand(len(self.items.ids.weight), device=self.device) < self.recipe.id_dropout
            indexes = indexes.masked_fill(hidden[indexes], 0)
        vectors: Tensor = self.items(indexes, buckets, text)
        return vectors

    def _load_rows(self) -> None:
        """Take the rows over that the item tables hold; an item they do not know starts from zero."""
        with torch.no_grad():
            self.items.ids.weight.zero_()
            known = self.tables.ids[: self.catalog.count]
            self.items.ids.weight[: len(known)] = torch.from_numpy(known)
            self.items.categories.weight.copy_(torch.from_numpy(self.tables.arrays.categories))
            self.items.text.copy_(torch.from_numpy(self.tables.arrays.text))

    def _make_optimizer(self) -> torch.optim.AdamW:
        matrices = [weight for weight in self.parameters() if weight.ndim > 1]
        others = [weight for weight in self.parameters() if weight.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.recipe.weight_decay}, {"params": others, "weight_decay": 0}]
        return torch.optim.AdamW(groups, lr=self.recipe.learning_rate, betas=(0.9, 0.98))


def candidates_of(slate: Slate) -> Tensor:
    """bool [B, C]: which places of the padded lists hold a candidate."""
    return torch.arange(slate.item.shape[1], device=slate.item.device) < slate.length[:, None]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _replace_parameter(optimizer: torch.optim.Optimizer, old: Tensor, grown: Tensor) -> None:
    """Put a table with more rows in the place of one; the new rows' state starts from zero."""
    state = optimizer.state.pop(old, {})
    for group in optimizer.param_groups:
        group["params"] = [grown if weight is old else weight for weight in group["params"]]
    more = len(grown) - len(old)
    widened = {
        name: torch.cat([value, value.new_zeros(more, *value.shape[1:])])
        if isinstance(value, Tensor) and value.shape == old.shape
        else value
        for name, value in state.items()
    }
    if widened:
        optimizer.state[grown] = widened
