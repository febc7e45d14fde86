"""The model as it learns: dense weights, item rows, and one step of gradient descent on a batch of examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional as F

from online_learning.recipe import Recipe
from ranker.batch import list_arrays, padded
from ranker.catalog import Catalog
from ranker.features import UserInputs, context_names, feature_names, list_inputs, user_inputs
from ranker.history import decode, hash_id
from ranker.model import History, ItemTable, ModelConfig, Ranker, Slate
from ranker.records import Example
from ranker.schema import FeatureSchema
from ranker.tables import STATISTICS, ItemTables, TableArrays, category_buckets

CATEGORY_BUCKETS = 256
_FREE_ROOM = 1024


class TrainingExample(Struct, frozen=True):
    """A list as it was ranked from, and what was chosen: `chosen` is a place in it, None where nothing was."""

    inputs: UserInputs
    chosen: int | None
    head: int = 0  # which positive action, in the schema's order


def training_example(example: Example, tables: ItemTables, schema: FeatureSchema) -> TrainingExample:
    """An example of the topic as the learner takes it: its features from the state and statistics that it carries."""
    row = decode(example.state)
    listed = list_inputs(row, tables.catalog, schema)
    statistics = np.array([item.statistics for item in example.items], np.float32)
    inputs = user_inputs(row, listed, tables, schema, statistics)
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

    def __init__(self, config: ModelConfig, tables: ItemTables, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.config, self.tables, self.recipe = config, tables, recipe
        self.model = Ranker(config)
        self.items = ItemTable(tables.catalog.count + _FREE_ROOM, CATEGORY_BUCKETS, config)
        self._load_rows()
        self.optimizer = self._make_optimizer()

    @property
    def catalog(self) -> Catalog:
        """The items that the rows stand for."""
        return self.tables.catalog

    def parameters(self) -> list[nn.Parameter]:
        """Everything that learns."""
        return [*self.model.parameters(), *self.items.parameters()]

    def logits(self, inputs: Sequence[UserInputs]) -> tuple[Tensor, Tensor]:
        """Logits [B, C, A] of padded lists, and which of [B, C] are candidates."""
        self.tables.sync()
        self._make_room()
        events = max(1, *(len(user.history) for user in inputs))
        arrays = {name: torch.from_numpy(array) for name, array in list_arrays(inputs, self.tables, events).items()}
        vectors = {
            side: self._vectors(arrays[side], arrays[category], arrays[text])
            for side, category, text in (("candidates", "cand_cat", "cand_text"), ("history", "hist_cat", "hist_text"))
        }
        length = arrays["hist_len"]
        gap, value = (
            torch.from_numpy(padded([getattr(user, name) for user in inputs], events)) for name in ("gap", "value")
        )
        history = History(
            item_vec=vectors["history"], action=arrays["hist_action"], gap=gap, value=value, age=arrays["hist_age"],
            item=arrays["hist_item"], category=arrays["hist_cat"], position=arrays["hist_pos"],
            text=arrays["hist_text"], length=length,
        )  # fmt: skip
        slate = Slate(
            item_vec=vectors["candidates"], features=arrays["cand_feat"], item=arrays["cand_item"],
            category=arrays["cand_cat"], position=arrays["cand_pos"], text=arrays["cand_text"],
            length=arrays["cand_len"], covisit=arrays["covisit"], context=arrays["context"],
        )  # fmt: skip
        real = torch.arange(slate.item.shape[1]) < slate.length[:, None]
        return self.model(slate, history), real

    def loss(self, examples: Sequence[TrainingExample]) -> Tensor:
        """Softmax over each list for the action that happened, plus a binary loss that keeps scores probabilities."""
        logits, real = self.logits([example.inputs for example in examples])
        heads = torch.tensor([example.head for example in examples])
        happened = logits[torch.arange(len(examples)), :, heads].masked_fill(~real, -1e9)  # [B, C]
        drew = torch.tensor([example.chosen is not None for example in examples])
        chosen = torch.tensor([example.chosen or 0 for example in examples])
        target = F.one_hot(chosen, happened.shape[1]) * drew[:, None]  # [B, C]
        listwise = F.cross_entropy(happened[drew], chosen[drew]) if drew.any() else happened.sum() * 0
        binary = F.binary_cross_entropy_with_logits(happened[real], target[real].float())
        return listwise + self.recipe.calibration * binary

    def learn(self, examples: Sequence[TrainingExample], learning_rate: float | None = None) -> float:
        """One step on a batch; the loss before it."""
        self.model.train()
        self.items.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate if learning_rate is None else learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(examples)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def scores(self, inputs: Sequence[UserInputs]) -> list[np.ndarray]:
        """float32 [C, A] logits of each list by the current weights."""
        self.model.eval()
        self.items.eval()
        logits, _ = self.logits(inputs)
        return [line[: len(user.candidates)].numpy() for line, user in zip(logits, inputs, strict=True)]

    def table_arrays(self) -> TableArrays:
        """The rows of every item that was learned or counted, as they go into a bundle."""
        count = self.catalog.count
        known = np.arange(1, count)
        learned = self.tables
        with torch.no_grad():
            return TableArrays(
                items=self.catalog.hashes[known].copy(),
                ids=self.items.ids.weight[1:count].numpy().copy(),
                statistics=learned.statistics[known].copy(),
                neighbours=learned.neighbours[known].copy(),
                strengths=learned.strengths[known].copy(),
                categories=self.items.categories.weight.numpy().copy(),
                text=self.items.text.numpy().copy(),
                reduction=learned.arrays.reduction,
                reduction_mean=learned.arrays.reduction_mean,
            )

    def _vectors(self, indexes: Tensor, categories: Tensor, text: Tensor) -> Tensor:
        buckets = torch.from_numpy(category_buckets(categories.numpy(), CATEGORY_BUCKETS))
        if self.model.training and self.recipe.id_dropout:
            hidden = torch.rand(len(self.items.ids.weight)) < self.recipe.id_dropout  # an item is hidden as a whole
            indexes = indexes.masked_fill(hidden[indexes], 0)
        vectors: Tensor = self.items(indexes, buckets, text)
        return vectors

    def _make_room(self) -> None:
        """Rows for items that have come since; the optimiser keeps what it knows of the others."""
        have, need = len(self.items.ids.weight), self.catalog.count
        if need <= have:
            return
        old = self.items.ids
        grown = nn.Embedding(2 * need, self.config.d, padding_idx=0)
        with torch.no_grad():
            grown.weight.zero_()
            grown.weight[:have] = old.weight
        self.items.ids = grown
        state = self.optimizer.state.pop(old.weight, {})
        for group in self.optimizer.param_groups:
            group["params"] = [grown.weight if weight is old.weight else weight for weight in group["params"]]
        widened = {
            name: torch.cat([value, value.new_zeros(2 * need - have, self.config.d)]) if value.ndim == 2 else value
            for name, value in state.items()
        }
        if widened:
            self.optimizer.state[grown.weight] = widened

    def _load_rows(self) -> None:
        """Take the rows over that the item tables hold; an item they do not know starts from zero."""
        with torch.no_grad():
            self.items.ids.weight.zero_()
            known = self.tables.ids[: self.catalog.count]
            self.items.ids.weight[: len(known)] = torch.from_numpy(known)
            self.items.categories.weight.copy_(torch.from_numpy(self.tables.arrays.categories))
            self.items.text.copy_(torch.from_numpy(self.tables.arrays.text))

    def _make_optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(self.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay)
