"""How a trainer learns from the stream: the numbers that an operator may want otherwise."""

from __future__ import annotations

import enum

from msgspec import Struct


class Mode(enum.StrEnum):
    """What the stream may change."""

    ROWS = "rows"  # item rows alone
    ADAPTERS = "adapters"  # item rows, and low-rank adapters of the dense layers
    FULL = "full"  # everything


class OnlineRecipe(Struct, frozen=True, kw_only=True):
    """Beside the `Recipe`. Times are milliseconds."""

    mode: Mode = Mode.FULL
    learning_rate: float = 5e-4  # of dense weights, for a step on a full batch; a smaller one takes a part of a step
    row_rate: float = 1e-3  # of item rows
    averaging: float = 0.995  # of the moving average of dense weights, a full step; the average is what is published
    id_dropout: float = 0.2  # share of items whose id row is hidden, as in `Recipe`
    batch: int = 64  # new examples of one step at most
    replayed: float = 1.0  # remembered examples beside each new one
    replay: int = 4096  # examples remembered
    next_item: float = 0.05  # weight of the self-supervised loss on the history
    young_rate: float = 20.0  # by so many times the rate a model learns faster at the starter; see `learning.pace`
    young_examples: float = 1500.0  # after so many examples that is halved, after twice as many a third
    young_replayed: float = 3.0  # remembered examples more beside each new one, at the starter
    adapter_rank: int = 4
    delta_ms: int = 1000  # between two deltas
    delta_rows: int = 2000  # rows of a delta at most: those that moved most; the others wait
    bundle_ms: int = 5000  # between two bundles
    bundle_examples: int = 0  # after so many new examples a bundle is made before that time is over; 0: never
    window: int = 1000  # examples of one progressive report
    remembered_ids: int = 1 << 16  # example ids and lists that are known again, users that are exactly
    expire_ms: int = 30 * 86_400_000  # a row that no example has named for so long is taken out; 0: never
    finetune_ms: int = 0  # between two full fine-tunings on the replay buffer; 0: never
    finetune_steps: int = 200
    gate_examples: int = 512  # newest tested examples that the gate looks at
    test_sample: int = (
        16  # of the examples of a step, so many are tested: ranked by what serves and the first model too
    )
    behind: int = 4096  # examples that wait, from which on none is replayed and not all are learned from
    anchor_sample: int = 8  # of the examples of a step that drew something, so many are ranked by the anchors
