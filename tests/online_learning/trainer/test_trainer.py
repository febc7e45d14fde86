"""The trainer learns what is planted, forgets nothing, and says exactly what it learned."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from online_learning.counting.counts import ItemCounts
from online_learning.data.log_fold import fold
from online_learning.first_model.log_examples import count, counted
from online_learning.learning.optimisation import Stepped
from online_learning.online_recipe import Mode
from online_learning.trainer.checkpoint import TrainerState, load_checkpoint, newest_checkpoint, save_checkpoint
from online_learning.trainer.outcomes import Publish
from online_learning.trainer.preparing import prepared
from online_learning.trainer.state import capture, restore
from online_learning.trainer.trainer import Trainer
from ranker.contracts.ids import hash_id
from ranker.items.catalog import Catalog
from ranker.items.tables import ItemTables, pack_row
from tests.support import stream

torch.set_num_threads(1)


def learn_all(trainer: Trainer, examples: list, at_once: int = 40, now: int = 0) -> list:
    """Feed a stream in portions; the progressive windows that came of it."""
    windows: list = []
    for start in range(0, len(examples), at_once):
        done = trainer.learn(examples[start : start + at_once], now)
        assert not done.diverged
        windows += done.windows
    return windows


@pytest.mark.parametrize("mode", list(Mode))
def test_it_learns_a_planted_preference(mode: Mode) -> None:
    """The last window is far better than the first, and than the frozen first model on the same examples."""
    trainer = stream.trainer(mode=mode, learning_rate=5e-3, row_rate=2e-2)
    windows = learn_all(trainer, stream.examples(700))
    last = windows[-1].rankers
    assert last["trainer"].mrr > windows[0].rankers["trainer"].mrr + 0.15
    assert last["trainer"].mrr > last["first"].mrr + 0.2
    assert last["trainer"].log_loss["click"] < last["first"].log_loss["click"]


def test_probabilities_are_calibrated_for_every_action() -> None:
    """After some hundred examples as many clicks and purchases are expected as happen."""
    trainer = stream.trainer(learning_rate=5e-3, row_rate=2e-2, window=300)
    calibration = learn_all(trainer, stream.examples(900))[-1].rankers["trainer"].calibration
    assert calibration["click"] == pytest.approx(1, abs=0.25)
    assert calibration["buy"] == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("mode", [Mode.ROWS, Mode.ADAPTERS])
def test_only_what_the_mode_names_changes(mode: Mode) -> None:
    """Item rows learn in every mode; of the dense weights the matrices move with adapters, and none without."""
    trainer = stream.trainer(mode=mode)
    before = {name: value.clone() for name, value in trainer.origin.weights.items()}
    learn_all(trainer, stream.examples(60))
    after = trainer.optimisation.merged_weights()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert trainer.learner.items.ids.weight.abs().sum() > 0
    assert bool(changed) == (mode is Mode.ADAPTERS)
    assert not any("norm" in name or "bias" in name or "position" in name for name in changed)


def test_an_example_is_scored_before_it_is_learned_from() -> None:
    """The first batch's test is that of the untouched model, whatever learning made of it."""
    trainer = stream.trainer(window=20, batch=32)
    done = trainer.learn(stream.examples(30)[:20], 0)
    figures = done.windows[0].rankers
    assert figures["trainer"].log_loss == pytest.approx(figures["serving"].log_loss)


def test_what_comes_again_is_not_learned_again() -> None:
    """An example id counts once, in one call or in several."""
    trainer, examples = stream.trainer(), stream.examples(40)
    done = trainer.learn([*examples, *examples[:10]], 0)
    assert (done.trained, done.repeated) == (len(examples), 10)
    done = trainer.learn(examples, 0)
    assert (done.trained, done.repeated) == (0, len(examples))
    assert trainer.trained == len(examples)


def test_the_memory_of_ids_is_bounded() -> None:
    """Only the newest ids, lists and users are remembered: so many for certain, and never twice as many."""
    trainer = stream.trainer(remembered_ids=50, replay=10)
    learn_all(trainer, stream.examples(150))
    assert 50 <= len(trainer.known) <= 100
    assert len(trainer.replay) == 10
    assert 50 <= len(trainer.counts.state()["lists"]) <= 100


def test_examples_with_the_hash_of_release_01_are_learned_from() -> None:
    """It was of the actions' weights too."""
    made = [msgspec.structs.replace(one, schema=stream.SCHEMA.full_hash) for one in stream.examples(5)]
    assert made[0].schema != stream.SCHEMA.hash
    assert stream.trainer().learn(made, 0).trained == len(made)


def test_examples_of_another_schema_are_refused() -> None:
    """Their rows may number actions otherwise."""
    trainer, examples = stream.trainer(), stream.examples(5)
    foreign = msgspec.structs.replace(examples[0], schema="0" * 16)
    done = trainer.learn([foreign, *examples[1:]], 0)
    assert done.refused == (foreign.example_id,)
    assert done.trained == len(examples) - 1


def test_counts_are_those_of_the_offline_replay() -> None:
    """Examples tell how often an item was shown, chosen and touched as the log itself does.

    A list of which nothing is known yet is not shown yet: the log's last lists all drew something.
    """
    records, examples = stream.records(120, users=4), stream.examples(120, users=4)
    offline = _folded(records)
    trainer = stream.trainer()
    learn_all(trainer, examples)
    online = trainer.learner.tables
    for item in range(30):
        mine = online.statistics[online.catalog.index_of[hash_id(f"item-{item}")]]
        theirs = offline.statistics[offline.catalog.index_of[hash_id(f"item-{item}")]]
        assert mine.tolist() == theirs.tolist()


def _folded(records: list) -> ItemTables:
    tables = ItemTables(stream.origin().tables, Catalog(), "tiny")
    counts = ItemCounts(tables)
    for step in fold(records, stream.SCHEMA):
        count(counted(step, stream.SCHEMA), counts)
    return tables


def test_deltas_hold_the_rows_of_the_bundle() -> None:
    """A version with its deltas applied has the item rows of a bundle taken at the same moment, to the bit."""
    trainer = stream.trainer(delta_ms=1000)
    examples = stream.examples(90)
    for now in range(0, 3000, 1000):
        done = trainer.learn(examples[now * 30 // 1000 :][:30], now)
        assert (Publish.DELTA in done.due) == (now > 0)
        assert [delta.base for delta in trainer.deltas(now)] == ["v0"]
    arrays, served = trainer.table_arrays(), trainer.versions.serving.tables
    for at, item in enumerate(arrays.items.tolist()):
        index = served.catalog.index_of[item]
        mine = pack_row(arrays.ids[at], arrays.statistics[at], arrays.neighbours[at], arrays.strengths[at])
        theirs = pack_row(
            served.ids[index], served.statistics[index], served.neighbours[index], served.strengths[index]
        )
        assert mine == theirs
    assert trainer.deltas(9000) == []


def test_a_delta_is_bounded_and_the_rest_follows() -> None:
    """The rows that moved most go first; nothing is lost."""
    trainer = stream.trainer(delta_rows=7)
    trainer.learn(stream.examples(40), 0)
    rows = [len(delta.rows) for now in range(1, 12) for delta in trainer.deltas(now)]
    assert rows[0] == 7
    assert sum(rows) == 30


def test_a_canary_takes_deltas_beside_what_serves() -> None:
    """Both are live; once the canary serves, it is alone, and known to the trainer with the rows that it was sent."""
    trainer = stream.trainer()
    examples = stream.examples(90)
    trainer.learn(examples[:30], 0)
    canary = trainer.snapshot(trainer.candidate("v1", 1))
    trainer.versions.set_canary(canary)
    trainer.learn(examples[30:60], 2)
    assert sorted(delta.base for delta in trainer.deltas(3)) == ["v0", "v1"]
    trainer.versions.serve(canary)
    arrays, served = trainer.table_arrays(), trainer.versions.serving.tables
    indexes = [served.catalog.index_of[item] for item in arrays.items.tolist()]
    np.testing.assert_array_equal(served.ids[indexes], arrays.ids)
    np.testing.assert_array_equal(served.statistics[indexes], arrays.statistics)
    trainer.learn(examples[60:], 4)
    assert [delta.base for delta in trainer.deltas(5)] == ["v1"]


def test_a_candidate_scores_as_the_trainer_does() -> None:
    """In adapters' mode too: the merged weights are the averages of the weights that learned."""
    trainer = stream.trainer(mode=Mode.ADAPTERS, learning_rate=1e-2)
    examples = stream.examples(80)
    learn_all(trainer, examples[:60])
    snapshot = trainer.snapshot(trainer.candidate("v1", 1))
    batch = [
        prepared(example, trainer.learner, trainer.versions, trainer.schema).training.inputs
        for example in examples[60:70]
    ]
    with trainer.optimisation.averaged():
        scores = trainer.learner.scores(batch)
    for ours, theirs in zip(scores, snapshot.scores(batch), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_trainer_taken_up_again_goes_on_as_if_nothing_had_been(mode: Mode, tmp_path: Path) -> None:
    """From a checkpoint in the middle: the same weights, rows, counts and draws as without the break."""
    examples = stream.examples(120)
    straight = stream.trainer(mode=mode, finetune_ms=1, finetune_steps=3, replay=30)
    broken = stream.trainer(mode=mode, finetune_ms=1, finetune_steps=3, replay=30)
    torch.manual_seed(1)
    for start in range(0, len(examples), 20):
        straight.learn(examples[start : start + 20], start)
    torch.manual_seed(1)
    for start in range(0, len(examples), 20):
        if start == 60:
            save_checkpoint(tmp_path, 1, capture(broken))
            broken = stream.trainer(mode=mode, finetune_ms=1, finetune_steps=3, replay=30)
            state = newest_checkpoint(tmp_path)
            assert state is not None
            torch.manual_seed(99)
            restore(broken, state)
            broken._last["finetune"] = straight_clock(start)
        broken.learn(examples[start : start + 20], start)
    ours, theirs = capture(straight), capture(broken)
    assert ours.facts == theirs.facts
    assert set(ours.arrays) == set(theirs.arrays)
    for name, array in ours.arrays.items():
        np.testing.assert_array_equal(array, theirs.arrays[name], err_msg=name)


@pytest.mark.parametrize(("before", "now"), [(Mode.FULL, Mode.ROWS), (Mode.ADAPTERS, Mode.FULL)])
def test_a_changed_mode_holds_after_a_restart(before: Mode, now: Mode) -> None:
    """What was learned in the old mode stays, and from then on only what the new one names changes."""
    first, second = stream.trainer(mode=before, replay=30), stream.trainer(mode=now, replay=10)
    examples = stream.examples(60)
    first.learn(examples[:40], 0)
    restore(second, capture(first))
    assert second.optimisation.mode is now
    assert len(second.replay) == 10
    weights = second.optimisation.merged_weights()
    for name, value in first.optimisation.merged_weights().items():
        torch.testing.assert_close(weights[name], value)
    second.learn(examples[40:], 0)
    after = second.optimisation.merged_weights()
    assert any(not torch.equal(after[name], value) for name, value in weights.items()) == (now is Mode.FULL)


def straight_clock(start: int) -> int:
    """When the last fine-tuning began, in a run whose clock moves 20 a call."""
    return start - 20


def test_a_loss_that_is_not_finite_goes_back_to_the_checkpoint() -> None:
    """The batch changes nothing, is refused for good, and everything else is learned once."""
    trainer, examples = stream.trainer(batch=20), stream.examples(100)
    trainer.learn(examples[:20], 0)
    state = capture(trainer)
    trainer.learn(examples[20:40], 0)
    with torch.no_grad():
        trainer.learner.model.outcomes.bias.fill_(float("nan"))
    done = trainer.learn(examples[40:60], 0)
    assert done.diverged
    assert done.trained == 0
    refused = done.refused
    restore(trainer, state)
    trainer.refuse(refused)
    assert all(bool(torch.isfinite(weight).all()) for weight in trainer.learner.model.parameters())
    done = trainer.learn(examples[20:], 0)
    assert not done.diverged
    assert set(done.refused) == set(refused)
    assert trainer.trained == len(examples) - len(refused)


def test_a_fine_tuning_that_is_not_finite_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named on the log once, and the stream goes on in its own mode."""
    trainer = stream.trainer(mode=Mode.ROWS, finetune_ms=100, finetune_steps=3)
    trainer.learn(stream.examples(20), 0)
    broken = Stepped(float("nan"), False, np.zeros(0, np.int64), np.zeros(0, np.float32))
    with monkeypatch.context() as patched:
        patched.setattr(trainer.optimisation, "step", lambda *_, **__: broken)
        for now in (150, 160, 170):
            assert not trainer.learn([], now).diverged
            assert (trainer.finetuned, trainer.optimisation.mode) == (None, Mode.ROWS)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert not trainer.learn(stream.examples(20, seed=1), 180).diverged


def test_rows_of_items_that_nobody_names_expire() -> None:
    """An old row goes to zero, leaves the bundle, and is sent once more so that workers drop it too."""
    trainer = stream.trainer(expire_ms=10_000_000)
    early = stream.examples(60)
    trainer.learn(early, 0)
    trainer.deltas(1)
    late = [
        msgspec.structs.replace(example, ts=example.ts + 20_000_000, example_id=f"late-{example.example_id}")
        for example in early
        if "item-3" in stream.items_of(example)
    ]
    trainer.learn(late, 2)
    trainer.deltas(3)
    before = set(trainer.table_arrays().items.tolist())
    kept = {item for example in late for item in stream.items_of(example)}
    kept |= {"item-3"}
    expired = trainer.expire()
    rows = trainer.table_arrays()
    assert len(rows.items) == 30 - expired
    assert {hash_id(item) for item in kept} <= set(rows.items.tolist())
    gone = before - set(rows.items.tolist())
    served = trainer.versions.serving.tables
    indexes = [served.catalog.index_of[item] for item in gone]
    assert len(indexes) == expired > 0
    assert served.ids[indexes].any(axis=1).all(), "workers still have them"
    (delta,) = trainer.deltas(4)
    worker = ItemTables(stream.origin().tables, Catalog(), "tiny")
    worker.put_rows([int(item) for item in delta.rows], list(delta.rows.values()))
    assert {int(item) for item in delta.rows} >= gone
    kept_after = {hash_id(f"item-{number}") for number in range(30)} - gone
    assert set(capture(trainer).arrays["rows.items"].tolist()) == kept_after, "what expired is in no later checkpoint"
    for tables in (served, worker):
        indexes = [tables.catalog.index_of[item] for item in gone]
        for name in ("ids", "statistics", "strengths", "neighbours"):
            assert not getattr(tables, name)[indexes].any(), name


def test_a_forgotten_user_is_gone_from_what_is_remembered() -> None:
    """Their examples leave the replay buffer, and older ones that come late are passed over."""
    trainer, examples = stream.trainer(), stream.examples(100)
    trainer.learn(examples[:60], 0)
    until = examples[-1].ts
    held = sum(entry.user_id == "user-3" for entry in trainer.replay.entries)
    assert trainer.forget("user-3", until) == held > 0
    trainer.learn(examples[60:], 0)
    assert not any(entry.user_id == "user-3" for entry in trainer.replay.entries)


def test_a_checkpoint_names_a_forgotten_user_nowhere(tmp_path: Path) -> None:
    """Not by the examples that were learned from, nor by those that were refused; another user's are there."""
    trainer, examples = stream.trainer(), stream.examples(100)
    trainer.learn(examples[:60], 0)
    trainer.refuse([example.example_id for example in examples[60:]])
    trainer.forget("user-3", examples[-1].ts)
    folder = save_checkpoint(tmp_path, 1, capture(trainer))
    written = b"".join(file.read_bytes() for file in folder.iterdir())
    assert b"user-4" in written
    assert b"user-3" not in written
    again = stream.trainer()
    restore(again, load_checkpoint(folder))
    assert again.learn(examples[60:70], 0).trained == 0


def test_what_an_earlier_release_refused_stays_refused() -> None:
    """Its checkpoints hold the ids themselves."""
    trainer, again, examples = stream.trainer(), stream.trainer(), stream.examples(20)
    state = capture(trainer)
    del state.arrays["refused"]
    restore(again, TrainerState(arrays=state.arrays, facts={**state.facts, "refused": [examples[0].example_id]}))
    assert again.learn(examples[:2], 0).refused == (examples[0].example_id,)


def test_deltas_rise_though_the_clock_does_not() -> None:
    """Workers take nothing that is not newer: a clock that stands still or is set back must cost no row."""
    trainer, examples = stream.trainer(), stream.examples(90)
    sequences = []
    for now in (5000, 5000, 4000, 6000):
        trainer.learn(examples[len(sequences) * 20 :][:20], now)
        sequences += [delta.sequence for delta in trainer.deltas(now)]
    assert sequences == [5000, 5001, 5002, 6000]


def test_deltas_rise_over_restarts() -> None:
    """Though the clock was set back; a checkpoint that knows of no delta is taken up all the same."""
    first, second, third = (stream.trainer() for _ in range(3))
    examples = stream.examples(40)
    first.learn(examples[:20], 5000)
    first.deltas(5000)
    state = capture(first)
    restore(second, state)
    second.learn(examples[20:], 4000)
    assert [delta.sequence for delta in second.deltas(4000)] == [5001]
    restore(second, state)
    second.learn(examples[20:], 4000)
    assert [delta.sequence for delta in second.deltas(4000)] == [5002], "what was sent since the checkpoint counts"
    restore(third, msgspec.structs.replace(state, facts={n: v for n, v in state.facts.items() if n != "sequence"}))
    third.learn(examples[20:], 6000)
    assert [delta.sequence for delta in third.deltas(6000)] == [6000]


def test_a_delta_holds_rows_that_no_step_has_met() -> None:
    """Items that came since the last step, more than there is room for, and have only counted."""
    trainer = stream.trainer()
    trainer.learn(stream.examples(20), 0)
    trainer.deltas(1)
    newest = [trainer.catalog.add(hash_id(f"new-{number}")) for number in range(3000)][-1]
    trainer.versions.unsent.move(np.array([newest]), 1.0)
    (delta,) = trainer.deltas(2)
    assert list(delta.rows) == [str(hash_id("new-2999"))]


def test_bundles_are_due_after_so_many_examples() -> None:
    """Before their interval is over; where none can be published now, not again before as many more have come."""
    trainer, examples = stream.trainer(bundle_ms=5000, bundle_examples=20), stream.examples(90)
    due = []
    for now in range(8):
        due.append(Publish.BUNDLE in trainer.learn(examples[now * 10 :][:10], now).due)
        if due == [False, True]:
            trainer.candidate("v1", now)
        if due[-1] and now == 3:
            trainer.postpone(now)
    assert due == [False, True, False, True, False, True, True, True]
    assert Publish.BUNDLE in trainer.due(5010)


def test_bundles_are_due_only_when_something_was_learned() -> None:
    """And no sooner than their interval after the last one."""
    trainer, examples = stream.trainer(bundle_ms=5000), stream.examples(60)
    assert trainer.learn(examples[:10], 1000).due == set()
    assert Publish.BUNDLE in trainer.due(6000)
    trainer.candidate("v1", 6000)
    assert Publish.BUNDLE not in trainer.due(20_000)
    assert Publish.BUNDLE in trainer.learn(examples[10:20], 20_000).due


def test_one_example_alone_is_learned_from_without_a_warning() -> None:
    """What a list keeps is not to be written, and torch would say so of an array that goes to it uncopied."""
    trainer = stream.trainer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trainer.learn(stream.examples(1)[:1], 0).trained == 1


def test_a_sample_of_a_step_is_tested() -> None:
    """All of a small one; so many at most, evenly spaced, of a large one, all of which is learned from."""
    trainer, made = stream.trainer(test_sample=8, window=8, batch=32), stream.examples(60)
    few = trainer.learn(made[:8], 0)
    assert (few.trained, len(few.windows)) == (8, 1)
    many = trainer.learn(made[8:40], 0)
    assert many.trained == 32
    (window,) = many.windows
    sample = [example.ts for example in made[8:40:4]]
    assert (window.examples, window.since, window.until) == (8, min(sample), max(sample))


def test_what_waits_is_thinned_and_counted() -> None:
    """Behind, it replays less, then learns from a share of what comes, new and old alike; the counts miss nothing."""
    made = stream.examples(200, items=60)
    calm, behind = stream.trainer(behind=100), stream.trainer(behind=100)
    learn_all(calm, made)
    done = behind.learn(made, 0, waiting=350)
    assert done.trained + done.thinned == len(made)
    assert 0.15 < done.trained / len(made) < 0.35  # one in four
    learned = [entry.ts for entry in behind.replay.entries]
    assert min(learned) < made[len(made) // 4].ts
    assert max(learned) > made[-len(made) // 4].ts
    for name, array in calm.counts.items.transitions().items():
        np.testing.assert_allclose(np.sort(array), np.sort(behind.counts.items.transitions()[name]), rtol=1e-6)
    assert behind.learn(made, 0).repeated == len(made)
