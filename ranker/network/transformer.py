"""The Transformer that re-ranks a person's list: the whole model, and nothing else, in this file.

Two graphs come out of it, because they run at different times. `extend` encodes new events of a history given the
attention keys and values of the earlier ones, so that an event costs one token and not a window. `score` relates a
list of candidates to the encoded history. `forward` does both in one call, for training.

Shapes: B examples, L events of history (oldest first), n new events, P cached events, C candidates, A outcomes
(heads), F features a candidate, U features of the user or the moment, K relations, D bumps and M items of the trail
(see `Relations`), W texts that the person typed and R features of each (see `WordTerms`), d model width, e relation
width.
Padding is always on the right and its length is always given, so no score depends on what the padding holds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Relations between candidates and all events: same item, same category, text similarity, co-visitation, attention.
RELATIONS = 5
ATTENTION_DIM = 16  # of that attention's queries and keys
# Signed distances in the shown list, candidate minus touched item, are read as bumps: (centre, width), one relation
# each. People walk down a list, so "just below what was touched" and "just above it" are different things.
BUMPS = ((-16, 16), (-5, 5), (-2, 1), (-1, 1), (0, 1), (1, 1), (2, 1), (3, 1), (5, 5), (16, 16))
TRAIL = 8  # distances are taken from so many of the list's items, the last touched ones: all events cost 3 times more
# How recent an event is: log1p(seconds) above each knot, decays of its rank from the newest event, and decays of the
# number of other listed items touched since.
AGE_KNOTS = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0)
RANK_DECAYS = (4.0, 1.4, 0.6, 0.25, 0.08)
TRAIL_DECAYS = (0.0, 4.0, 1.0, 0.3)
RECENCY_FEATURES = len(AGE_KNOTS) + len(RANK_DECAYS) + 2 * len(TRAIL_DECAYS)
# What is known of a text that the person typed, and what one is worth before any was learned from: logits for each
# standard deviation that a candidate's likeness to it lies above its list. See `features.names.WORD_FEATURES`.
WORD_STRENGTHS = (1.5, 0.0, 0.0, 0.0, -0.75)
MASKED = -1e9  # finite: a softmax over nothing must give numbers, not NaN


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes that fix a model's parameters; it travels in the bundle's manifest."""

    n_actions: int  # rows of the action embedding; the host maps an unknown action to one of them
    n_features: int  # F
    n_context: int  # U
    n_outcomes: int = 1  # A
    d: int = 32
    layers: int = 1
    heads: int = 2
    window: int = 64  # the longest history
    relation_dim: int = 24  # e
    hidden: int = 64  # width of the candidate block
    text_dim: int = 64
    list_block: bool = False
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.d % self.heads or self.hidden % self.heads:
            raise ValueError(f"heads={self.heads} must divide d={self.d} and hidden={self.hidden}")

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown name is an error, since it would be another model."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown model settings {unknown}; known are {sorted(known)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Events:
    """What the encoder reads of a person's events, oldest first. Padded on the right to L, or to n new ones."""

    item_vec: Tensor  # [B, L, d] rows of the item table (`ItemTable`), zeros for an event without an item
    action: Tensor  # [B, L] int64
    gap: Tensor  # [B, L] log1p of the seconds since the previous event, 0 for the window's first
    value: Tensor  # [B, L] the event's value (rating, amount), scaled by the host


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Attention keys and values of the events encoded before. Padded on the right to P."""

    k: Tensor  # [B, layers, P, d]
    v: Tensor  # [B, layers, P, d]
    length: Tensor  # [B] int64 number of events in it


@dataclass(frozen=True, kw_only=True)
class History(Events):
    """What a person did, oldest first, as it relates to the list now shown. Padded on the right to L."""

    age: Tensor  # [B, L] log1p of the seconds from the event to now
    item: Tensor  # [B, L] int64 hash of the item id, for equality only
    category: Tensor  # [B, L] int64, 0 = none
    position: Tensor  # [B, L] int64 position of the event's item in the list now shown, -1 if it is not there
    text: Tensor  # [B, L, text_dim] unit vectors, zeros where there is no text
    length: Tensor  # [B] int64 number of real events


@dataclass(frozen=True, kw_only=True)
class Slate:
    """The candidates to rank, and the moment. Padded on the right to C."""

    item_vec: Tensor  # [B, C, d]
    features: Tensor  # [B, C, F]
    item: Tensor  # [B, C] int64 hash of the item id, for equality only
    category: Tensor  # [B, C] int64, 0 = none
    position: Tensor  # [B, C] int64 shown position, 0 first
    text: Tensor  # [B, C, text_dim]
    length: Tensor  # [B] int64 number of real candidates
    covisit: Tensor  # [B, C, L] co-visitation strength of candidate and event, 0 when none
    context: Tensor  # [B, U]
    said: Tensor  # [B, C, W] how like each text each candidate is, 0 as like as its list; 0 for padding
    words: Tensor  # [B, W, R] what is known of each text, oldest first


class ItemTable(nn.Module):
    """Item vectors: an id row plus the projected text embedding plus a category row, [..] -> [.., d].

    It stays outside the graphs, so that changed rows apply in place. Row 0 of ids and categories is "none" and zero:
    an unseen item is its text and category alone. The text projection starts at zero, so that a corpus without texts
    leaves it out exactly.
    """

    def __init__(self, n_items: int, n_categories: int, config: ModelConfig) -> None:
        super().__init__()
        self.ids = nn.Embedding(n_items, config.d, padding_idx=0)
        self.categories = nn.Embedding(n_categories, config.d, padding_idx=0)
        self.text = nn.Parameter(torch.zeros(config.text_dim, config.d))
        nn.init.normal_(self.ids.weight, std=0.02)
        nn.init.zeros_(self.categories.weight)
        with torch.no_grad():
            self.ids.weight[0].zero_()

    def forward(self, row: Tensor, category: Tensor, text: Tensor) -> Tensor:
        """Vectors [.., d] of items given by row [..], category [..] and text [.., text_dim]."""
        vectors: Tensor = self.ids(row) + self.categories(category) + text @ self.text
        return vectors


class Linear(nn.Module):
    """x @ weight + bias with the weight stored [inputs, outputs].

    `nn.Linear` stores the transpose, which exporters fold into constants that have lost their names; here every
    initialiser of the graph is a parameter, so that weights can be replaced without exporting again.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * (0.0 if zero else inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[.., inputs] -> [.., outputs]."""
        out = x @ self.weight
        return out if self.bias is None else out + self.bias


class EncoderLayer(nn.Module):
    """One pre-norm Transformer layer over the history, with its earlier keys and values given."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d
        self.heads, self.scale = config.heads, (d // config.heads) ** -0.5
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query, self.key, self.value = Linear(d, d), Linear(d, d), Linear(d, d)
        self.out = Linear(d, d)
        self.up, self.down = Linear(d, 2 * d), Linear(2 * d, d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past_k: Tensor, past_v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, n, d], past_k and past_v [B, P, d], mask [B, 1, n, P+n] additive -> k, v and the output [B, n, d]."""
        a = self.norm_attention(x)  # [B, n, d]
        k, v = self.key(a), self.value(a)  # [B, n, d]
        q = self._split(self.query(a))  # [B, h, n, d/h]
        keys = self._split(torch.cat((past_k, k), dim=1))  # [B, h, P+n, d/h]
        values = self._split(torch.cat((past_v, v), dim=1))
        weights = q @ keys.transpose(2, 3) * self.scale + mask  # [B, h, n, P+n]
        read = (torch.softmax(weights, dim=-1) @ values).transpose(1, 2)  # [B, n, h, d/h]
        read = read.reshape(*read.shape[:2], -1)  # [B, n, d]
        x = x + self.dropout(self.out(read))
        x = x + self.dropout(self.down(F.relu(self.up(self.norm_mlp(x)))))
        return k, v, x

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, m, d] -> [B, h, m, d/h]


class HistoryEncoder(nn.Module):
    """Causal Transformer over a person's events, extendable one event at a time.

    An event's encoding depends on itself and on the events before it in the window, so encoding the window at once
    and event by event give the same numbers.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.action = nn.Embedding(config.n_actions, config.d)
        self.position = nn.Embedding(config.window, config.d)
        self.numbers, self.numbers_out = Linear(2, 16), Linear(16, config.d)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.action.weight, std=0.1)
        nn.init.zeros_(self.position.weight)

    def forward(self, events: Events, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
        """Encodes n new events: keys and values [B, layers, n, d] to append to the cache, and encodings [B, n, d]."""
        n, p = events.action.shape[1], cache.k.shape[2]
        step = torch.arange(n, device=events.action.device)  # [n]
        place = (cache.length[:, None] + step).clamp(max=self.position.num_embeddings - 1)  # [B, n]
        numbers = torch.stack((events.gap, events.value), dim=-1)  # [B, n, 2]
        x = events.item_vec + self.action(events.action) + self.position(place)  # [B, n, d]
        x = self.dropout(x + self.numbers_out(F.relu(self.numbers(numbers))))
        # A new event sees the cached ones and the new ones up to itself. Padding is after it, so it sees none.
        slot = torch.arange(n + p, device=step.device)  # [P+n]
        filled = (slot >= p) | (slot < cache.length[:, None])  # [B, P+n]
        visible = filled[:, None] & (slot - p <= step[:, None])  # [B, n, P+n]
        mask = torch.where(visible, 0.0, MASKED)[:, None]  # [B, 1, n, P+n]
        ks, vs = [], []
        for i, layer in enumerate(self.layers):
            k, v, x = layer(x, cache.k[:, i], cache.v[:, i], mask)
            ks.append(k)
            vs.append(v)
        k, v = (each[0][:, None] if len(each) == 1 else torch.stack(each, dim=1) for each in (ks, vs))
        return k, v, self.norm(x)


class Relations(nn.Module):
    """How each candidate relates to each past event: sum over relations k of R_k [C, L] times E_k [L, e].

    R_k is a fixed function of the two sides (same item, distance in the shown list ...), E_k a learned encoding of
    the events: what it means to a candidate when this event is so related to it. The maps to E_k start at zero, so a
    relation that never occurred in training keeps adding exactly zero.
    """

    centres: Tensor
    slopes: Tensor
    ranks: Tensor
    age_knots: Tensor
    rank_decays: Tensor
    trail_decays: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, e = config.d, config.relation_dim
        self.related = e
        self.action = nn.Embedding(config.n_actions, d)
        self.encoding, self.recency = Linear(d, d), Linear(RECENCY_FEATURES, d)
        self.events = nn.Parameter(torch.zeros(RELATIONS, d, e))  # the maps to E_k
        self.trail = nn.Parameter(torch.zeros(len(BUMPS), d, e))
        self.query, self.key = Linear(config.hidden, ATTENTION_DIM, bias=False), Linear(d, ATTENTION_DIM, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.action.weight, std=0.1)
        centre, width = torch.tensor(BUMPS, dtype=torch.float32).T[:, :, None].expand(-1, -1, TRAIL)  # [D, M] each
        for name, constant in (
            ("centres", centre), ("slopes", 1 / width.flatten()), ("ranks", torch.arange(float(TRAIL))[:, None]),
            ("age_knots", torch.tensor(AGE_KNOTS)), ("rank_decays", -torch.tensor(RANK_DECAYS)),
            ("trail_decays", -torch.tensor(TRAIL_DECAYS)),
        ):  # fmt: skip
            self.register_buffer(name, constant, persistent=False)

    def forward(self, slate: Slate, candidates: Tensor, history: History, h: Tensor, rank: Tensor) -> Tensor:
        """Candidate states [B, C, hidden], encodings h [B, L, d], recency rank [B, L] -> [B, C, e]."""
        real = rank >= 0  # [B, L]
        listed = real & (history.position >= 0)  # [B, L] events on items of the list now shown
        place = torch.where(listed, history.position, -1).float()  # [B, L]
        latest, others = self._trail(place, listed.float())  # [B, L] each
        x = self._describe(history, h, self._recency(history.age, rank, listed.float(), latest, others))
        x = x * real.float()[:, :, None]  # [B, L, d]
        e = self._in_a_row(x[:, None] @ self.events)  # [B, K*L, e]
        picked = (others[:, None] == self.ranks).float() * latest[:, None]  # [B, M, L] one-hot: the m-th last touched
        # Where fewer were touched, a row is zero, and so is what it adds.
        e_trail = self._in_a_row((picked @ x)[:, None] @ self.trail)  # [B, D*M, e]
        bumps = self._distances(slate.position, (picked @ place[:, :, None]).transpose(1, 2))  # [B, C, D*M]
        return self._relate(slate, candidates, history, h) @ e + bumps @ e_trail

    def _in_a_row(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.related)  # [B, K, L, e] -> [B, K*L, e]; `flatten` makes four nodes more

    def _trail(self, place: Tensor, listed: Tensor) -> tuple[Tensor, Tensor]:
        """Places in the list of the events' items, [B, L] -> whether an event is the newest on its item of the list,
        and how many other items of the list were touched after it, [B, L] each."""
        step = torch.arange(place.shape[1], device=place.device)
        later = (step > step[:, None]).float()  # [L, L] row: the event, column: those after it
        again = (place[:, :, None] == place[:, None]).float() * later  # [B, L, L]
        latest = listed * (again.amax(dim=2) == 0).float()  # [B, L]
        return latest, (latest[:, None] @ later.T)[:, 0]

    def _recency(self, age: Tensor, rank: Tensor, listed: Tensor, latest: Tensor, others: Tensor) -> Tensor:
        """How long ago, in time, in events and in items of the list: [B, L] each -> [B, L, RECENCY_FEATURES]."""
        decays = torch.exp(others[:, :, None] * self.trail_decays)  # [B, L, 4]
        since = torch.exp(rank.clamp(min=0).float()[:, :, None] * self.rank_decays)  # [B, L, 5]
        aged = F.relu(age[:, :, None] - self.age_knots)  # [B, L, 8]
        return torch.cat((aged, since, decays * listed[:, :, None], decays * latest[:, :, None]), dim=-1)

    def _describe(self, history: History, h: Tensor, recency: Tensor) -> Tensor:
        """What an event was and how long ago, [B, L, d]."""
        x = self.encoding(h) + self.action(history.action) + self.recency(recency)
        out: Tensor = self.dropout(F.relu(x))
        return out

    def _distances(self, position: Tensor, place: Tensor) -> Tensor:
        """Bumps of the distance from each item of the trail, places [B, 1, M], to positions [B, C] -> [B, C, D*M]."""
        peaks = (place + self.centres).flatten(1)  # [B, D*M]
        steps = (position.float()[:, :, None] - peaks[:, None]).abs()  # [B, C, D*M]
        return F.relu(1 - steps * self.slopes)

    def _relate(self, slate: Slate, candidates: Tensor, history: History, h: Tensor) -> Tensor:
        """The relation matrices to all events side by side, [B, C, K*L]."""
        same_item = (slate.item[:, :, None] == history.item[:, None]).float()  # [B, C, L]
        categories = torch.where(slate.category == 0, -1, slate.category)  # "none" equals nothing
        same_category = (categories[:, :, None] == history.category[:, None]).float()
        text = slate.text @ history.text.transpose(1, 2)  # cosine, since both are unit vectors
        # Attention without softmax (as in HSTU, arXiv 2402.17152): what is alike adds up, and needs no mask.
        attention = F.relu(self.query(candidates) @ self.key(h).transpose(1, 2) * ATTENTION_DIM**-0.5)
        return torch.cat((same_item, same_category, text, slate.covisit, attention), dim=-1)


class WordTerms(nn.Module):
    """How like each candidate is to what the person typed, [C, W], times what each text is worth.

    What it is worth is learned twice: as a term of its own in the logits, which counts before anything was learned, and
    as a relation, into the candidates' states, which starts at zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(WORD_STRENGTHS))  # [R]; a vector, so that it does not decay
        self.relation = nn.Parameter(torch.zeros(len(WORD_STRENGTHS), config.relation_dim))

    def related(self, slate: Slate) -> Tensor:
        """What it adds to the relations, [B, C, e]."""
        out: Tensor = slate.said @ (slate.words @ self.relation)
        return out

    def logits(self, slate: Slate) -> Tensor:
        """What it adds to each outcome's logit, [B, C, 1]."""
        out: Tensor = slate.said @ (slate.words @ self.strength)[:, :, None]
        return out


class ListBlock(nn.Module):
    """Self-attention among the candidates: what else is in the list changes what a candidate is worth."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.hidden)
        self.query, self.key = Linear(config.hidden, config.hidden), Linear(config.hidden, config.hidden)
        self.value, self.out = Linear(config.hidden, config.hidden), Linear(config.hidden, config.hidden, zero=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Candidate states [B, C, hidden], list lengths [B] -> [B, C, hidden]."""
        a = self.norm(x)
        q, k, v = (m(a).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        padding = (torch.arange(x.shape[1], device=x.device) >= length[:, None]).float()  # [B, C]
        weights = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5) + padding[:, None, None] * MASKED  # [B, h, C, C]
        read = (torch.softmax(weights, dim=-1) @ v).transpose(1, 2).flatten(2)  # [B, C, hidden]
        out: Tensor = x + self.dropout(self.out(read))
        return out


class Ranker(nn.Module):
    """Scores each candidate of a list for each outcome, from the list, the moment and the person's history."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, hidden = config.d, config.hidden
        self.config = config
        self.encoder = HistoryEncoder(config)
        self.features, self.item = Linear(config.n_features, hidden), Linear(d, hidden, bias=False)
        self.context, self.user = Linear(config.n_context, hidden, bias=False), Linear(d, hidden, bias=False)
        self.relations = Relations(config)
        self.words = WordTerms(config)
        self.related = Linear(config.relation_dim, hidden, bias=False)
        self.mix = Linear(hidden, hidden)
        self.list_block = ListBlock(config) if config.list_block else None
        self.outcomes = Linear(hidden, config.n_outcomes)
        self.match = Linear(d, config.n_outcomes * d, bias=False, zero=True)
        self.dropout = nn.Dropout(config.dropout)

    def score(self, slate: Slate, history: History, h: Tensor) -> Tensor:
        """Logits [B, C, A] of the candidates, from the encodings h [B, L, d] of the history."""
        step = torch.arange(h.shape[1], device=h.device)  # [L]
        rank = history.length[:, None] - 1 - step  # [B, L] 0 for the newest event, negative for padding
        user = ((rank == 0).float()[:, None] @ h)[:, 0]  # [B, d] the newest encoding, zeros for an empty history
        moment = self.context(slate.context) + self.user(user)  # [B, hidden]
        x = self.features(slate.features) + self.item(slate.item_vec) + moment[:, None]
        related = self.relations(slate, x, history, h, rank) + self.words.related(slate)  # [B, C, e]
        x = x + self.related(related)  # [B, C, hidden]
        x = self.dropout(F.relu(x))
        x = x + self.dropout(F.relu(self.mix(x)))
        if self.list_block is not None:
            x = self.list_block(x, slate.length)
        taste = self.match(user).reshape(-1, self.config.n_outcomes, self.config.d)  # [B, A, d]
        logits: Tensor = self.outcomes(x) + slate.item_vec @ taste.transpose(1, 2)  # [B, C, A]
        return logits + self.words.logits(slate)

    def encode(self, history: History) -> Tensor:
        """Encodings [B, L, d] of a whole window at once."""
        empty = history.item_vec.new_zeros(len(history.action), self.config.layers, 0, self.config.d)
        _, _, h = self.encoder(history, Cache(k=empty, v=empty, length=torch.zeros_like(history.length)))
        encodings: Tensor = h
        return encodings

    def forward(self, slate: Slate, history: History) -> Tensor:
        """Encodes the whole history and scores the list, for training: logits [B, C, A]."""
        return self.score(slate, history, self.encode(history))
