"""An example that cannot be learned from costs itself: not its batch, not its user, not the weights."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch

from online_learning.learning.learner import TrainingExample, shown_statistics, training_example
from online_learning.trainer.preparing import Prepared
from ranker.contracts.records import Example
from ranker.state.codec import decode_row, encode_row
from ranker.state.row import EVENT
from tests.support import stream

torch.set_num_threads(1)


def poisoned(example: Example, number: int) -> list[Example]:
    """Copies of an example that cannot be learned from, each in its way."""
    change = msgspec.structs.replace
    row = decode_row(example.state)
    assert example.outcome is not None
    earlier = stream.of_earlier_release(example)
    foreign = np.frombuffer(row.events, EVENT).copy()
    foreign["action"] = 77
    made = [
        change(example, state=example.state[:-5]),
        change(example, state=b"\xff"),
        change(example, state=encode_row(change(row, lists=()))),
        change(example, state=encode_row(change(row, events=foreign.tobytes()))),
        change(example, state=encode_row(change(row, events=row.events * 100))),
        change(example, state=encode_row(change(row, summary=b"\x00\x00\xc0\x7f" * 64))),
        change(example, statistics=example.statistics[12:]),
        change(example, statistics=b""),
        change(example, statistics=np.full_like(shown_statistics(example), np.nan).tobytes()),
        change(example, statistics=np.full_like(shown_statistics(example), -1).tobytes()),
        change(example, ranks=b"1234"),
        change(example, propensities=b"12345678"),
        change(earlier, items=earlier.items[1:]),
        change(earlier, items=[change(item, statistics=[float("nan")] * 3) for item in earlier.items]),
        change(earlier, items=[change(item, statistics=[1.0]) for item in earlier.items]),
        change(example, outcome=change(example.outcome, item_id="foreign")),
        change(example, outcome=change(example.outcome, action="fly")),
    ]
    return [change(one, example_id=f"bad-{number}-{at}") for at, one in enumerate(made)]


def test_an_example_that_cannot_be_learned_from_costs_itself() -> None:
    """Each bad one is refused alone; every good one of its batch is learned from, and the weights stay finite."""
    good = stream.examples(40)
    late = next(one for one in good[5:] if one.outcome and len(decode_row(one.state).events) > 2 * EVENT.itemsize)
    bad = poisoned(late, 0)
    trainer = stream.trainer()
    mixed = [*good[:10], *bad, *good[10:]]
    done = trainer.learn(mixed, 0)
    assert set(done.refused) == {one.example_id for one in bad}
    assert not done.diverged
    assert (done.trained, trainer.trained) == (len(good), len(good))
    assert trainer.optimisation.finite


def test_an_example_of_the_release_before_is_learned_from_alike() -> None:
    """It has its items one by one, and says of each what the columns say."""
    tables, made = stream.trainer().learner.tables, stream.examples(40)
    assert any(shown_statistics(one).any() for one in made)
    for one in made:
        before = msgspec.json.decode(msgspec.json.encode(stream.of_earlier_release(one)), type=Example)
        now = msgspec.json.decode(msgspec.json.encode(one), type=Example)
        np.testing.assert_array_equal(shown_statistics(before), shown_statistics(now))
        features = (training_example(example, tables, stream.SCHEMA).inputs.features for example in (before, now))
        np.testing.assert_array_equal(*features)
    ours, theirs = stream.trainer(), stream.trainer()
    assert ours.learn(made, 0).trained == theirs.learn([stream.of_earlier_release(one) for one in made], 0).trained > 0


def test_the_log_tells_examples_apart_and_names_no_user(caplog: pytest.LogCaptureFixture) -> None:
    """An example's id begins with the user's."""
    good = stream.examples(40)
    assert good[0].example_id.startswith(good[0].user_id)
    bad = [msgspec.structs.replace(one, state=b"\xff") for one in good[:3]]
    stream.trainer().learn(bad, 0)
    said = [record.getMessage() for record in caplog.records]
    assert len(set(said)) == len(bad)
    assert not any(one.user_id in line for one in bad for line in said)


def test_an_extreme_value_harms_nobody() -> None:
    """The largest value that a click may have, in a user's history: learned from like any other, loss and all."""
    good = stream.examples(40)
    trainer, change = stream.trainer(), msgspec.structs.replace

    def extreme(example: Example) -> Example:
        row = decode_row(example.state)
        events = np.frombuffer(row.events, EVENT).copy()
        events["value"][::2], events["value"][1::2] = 3.4028235e38, -3.4028235e38
        return change(example, state=encode_row(change(row, events=events.tobytes())))

    done = trainer.learn([extreme(one) if at % 2 else one for at, one in enumerate(good)], 0)
    assert (done.trained, done.refused, done.diverged) == (len(good), (), False)
    assert trainer.optimisation.finite


def test_an_example_with_a_loss_that_is_not_finite_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one example spoils the step of its batch, the others are learned from one by one."""
    trainer, good = stream.trainer(), stream.examples(12)
    bad, step = good[3].example_id, trainer._train

    def spoiled(batch: Sequence[Prepared], replayed: Sequence[TrainingExample]) -> float | None:
        return None if any(one.example.example_id == bad for one in batch) else step(batch, replayed)

    monkeypatch.setattr(trainer, "_train", spoiled)
    done = trainer.learn(good, 0)
    assert done.refused == (bad,)
    assert (done.trained, done.diverged) == (len(good) - 1, False)
