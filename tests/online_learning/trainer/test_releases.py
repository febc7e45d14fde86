"""Candidates on their way to the registry and back, and a trainer that dies between any two of its steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from liverank.settings import changed
from online_learning.recipe import Recipe
from online_learning.releases import origins
from online_learning.releases.origins import fetch_origin, read_origin
from online_learning.releases.pruning import prune_registry
from online_learning.releases.writing import Provenance, publish_model
from online_learning.trainer.checkpoint import newest_checkpoint
from online_learning.trainer.startup import open_trainer
from online_learning.trainer.state import capture
from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import OtherInputs
from ranker.contracts.ids import hash_id
from ranker.contracts.schema import Action
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle, new_version, read_manifest, registry_versions
from ranker.rollout.stages import Stages, follow
from ranker.serving.model import load_model
from tests.support import stream
from tests.support.releasing import Installation
from tests.support.tiny import tiny_bundle, tiny_model, tiny_tables

torch.set_num_threads(1)


def test_a_bundle_serves_and_scores_as_the_trainer(tmp_path: Path) -> None:
    """It passes every check of a worker, and a trainer that starts from it has the same weights and rows."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(60), 0, {"examples-0": 60})
    update = here.release(trainer, releases, 10)
    assert update is not None
    assert update.stage == "promoted"
    folder = fetch_bundle(here.settings.registry, update.version, tmp_path / "fetched", update.sha256)
    load_model(folder, Catalog(), here.settings.worker.serving).close()
    manifest = read_manifest(folder)
    assert (manifest.parent, manifest.offsets) == (here.first, {"examples-0": 60})
    assert manifest.learned_until == trainer.learned_until
    origin = read_origin(folder)
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(origin.weights[name].numpy(), value.numpy(), err_msg=name)
    np.testing.assert_array_equal(origin.tables.ids, trainer.table_arrays().ids)
    assert trainer.versions.serving.version == update.version


def test_each_example_is_learned_once_whatever_step_dies(tmp_path: Path) -> None:
    """A process that ends after any number of steps, its newest checkpoint torn or not, goes on without gap or repeat.

    Every checkpoint's counter equals the number of distinct examples before its offset.
    """
    examples = stream.examples(60)
    topic = [*examples[:30], *examples[10:25], *examples[30:]]  # some came twice
    for steps in range(1, 13):
        home = tmp_path / str(steps)
        here = Installation(home)
        for life in range(4):
            if _live(here, topic, steps + life):
                break
            if life == 1 and (newest := _newest(here)) is not None and len(list(newest.parent.iterdir())) > 1:
                (newest / "state.safetensors").write_bytes(b"torn")
        _live(here, topic, 10_000)
        state = newest_checkpoint(here.settings.trainer.data)
        assert state is not None
        assert state.facts["trained"] == len(examples)
        assert set(state.arrays["known"].tolist()) == {hash_id(example.example_id) for example in examples}
        shutil.rmtree(home)


def _live(here: Installation, topic: list, steps: int) -> bool:
    """One process that dies after so many steps; whether it came to the end of the topic and its last checkpoint."""
    trainer, releases = here.start()

    def work() -> object:
        while (offset := trainer.offsets.get("examples-0", 0)) < len(topic):
            end = min(offset + 9, len(topic))
            seen = {hash_id(example.example_id) for example in topic[:offset]}
            assert trainer.trained == len(seen)
            yield trainer.learn(topic[offset:end], end, {"examples-0": end})
            draft = releases.draft(end)
            yield draft
            yield releases.save(draft.state)
            update = releases.write(draft)
            yield update
            if update is not None and releases.confirm(draft, update):
                here.updates.append(update)
                yield releases.announced(update)
            yield releases.comply()
        releases.save(capture(trainer))

    left = steps
    for _ in work():
        left -= 1
        if not left:
            return False
    return True


def _newest(here: Installation) -> Path | None:
    found = sorted(here.settings.trainer.data.glob("checkpoint-*"))
    return found[-1] if found else None


def test_a_trainer_of_another_schema_has_a_checkpoint_to_go_back_to(tmp_path: Path) -> None:
    """One that started over from a version of another schema goes back to its own beginning, not to the old model."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0)
    releases.save(capture(trainer))
    schema = msgspec.structs.replace(stream.SCHEMA, window=stream.SCHEMA.window + 2)
    here.updates.append(here.model_update(tiny_bundle(tmp_path / "registry", schema), "promoted"))
    trainer, releases = here.start()
    assert (trainer.schema, trainer.trained) == (schema, 0)
    trainer.learn(stream.examples(20, schema=schema), 0)
    releases.roll_back()
    assert (trainer.schema, trainer.trained) == (schema, 0)


def test_another_schema_ends_the_trainer_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """It says what differs. The next one knows what was read and erased, and learns from examples that old workers
    made; a schema by which they would mean something else is none to learn from.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0, {"examples-0": 20})
    trainer.forget("user-1", stream.START)
    releases.save(capture(trainer))
    new = msgspec.structs.replace(stream.SCHEMA, actions=(*stream.SCHEMA.actions, Action(name="save")))
    update = here.model_update(tiny_bundle(tmp_path / "registry", new), "promoted")
    here.updates.append(update)
    releases.announced(update)
    with pytest.raises(
        OtherInputs, match=rf"{update.version} serves now, .*: the action 'save' is new\. Started again"
    ):
        releases.comply()
    trainer, releases = here.start()
    assert (trainer.schema, trainer.offsets, trainer.trained) == (new, {"examples-0": 20}, 0)
    assert hash_id("user-1") in trainer.forgotten
    before = stream.examples(20, seed=1)
    foreign = msgspec.structs.replace(before[0], schema="0" * 16)
    done = trainer.learn([foreign, *before[1:]], 0)
    assert (done.trained, done.refused) == (len(before) - 1, (foreign.example_id,))
    assert trainer.learn(stream.examples(20, seed=2, schema=new), 0).trained > 0
    assert trainer.learn(before, 0).trained == 0, "each once"


def test_what_people_did_during_a_training_is_learned_by_the_new_schema(tmp_path: Path) -> None:
    """A version that says where its log ended is gone on from there, though the old trainer had read further."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    during = stream.examples(20)
    trainer.learn(during, 0, {"examples-0": 20, "erasures-0": 3})
    releases.save(capture(trainer))
    new = msgspec.structs.replace(stream.SCHEMA, actions=(*stream.SCHEMA.actions, Action(name="save")))
    here.updates.append(here.model_update(tiny_bundle(tmp_path / "registry", new), "promoted"))
    fetch = lambda version: fetch_origin(here.settings.trainer, version)  # noqa: E731
    origin = msgspec.structs.replace(fetch(here.updates[0].version), offsets={"examples-0": 5})
    trainer = open_trainer(here.settings.trainer, origin, follow(Stages(), here.updates[0]), Catalog(), fetch)
    assert trainer.offsets == {"examples-0": 5, "erasures-0": 3}
    assert trainer.learn(during, 0).trained == len(during)


def test_a_version_made_of_the_topics_is_started_over_from(tmp_path: Path) -> None:
    """Of the same schema, promoted while no trainer ran: that it names offsets makes it none of the trainer's own."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0)
    here.release(trainer, releases, 10)
    here.updates.append(here.model_update(tiny_bundle(tmp_path / "registry", stream.SCHEMA, seed=3), "promoted"))
    fetch = lambda version: fetch_origin(here.settings.trainer, version)  # noqa: E731
    origin = msgspec.structs.replace(fetch(here.updates[-1].version), offsets={"examples-0": 5})
    known = Stages()
    for update in here.updates:
        known = follow(known, update)
    trainer = open_trainer(here.settings.trainer, origin, known, Catalog(), fetch)
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), origin.weights[name].numpy())


def test_weights_of_actions_are_the_trainers_own(tmp_path: Path) -> None:
    """Another weight in [schema] is no other schema: the checkpoint is taken up, and the next version carries it.
    Without one, the weights are those of whatever is promoted.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0)
    releases.save(capture(trainer))
    buy = msgspec.structs.replace(stream.SCHEMA.actions[2], weight=7.0)
    own = msgspec.structs.replace(stream.SCHEMA, actions=(*stream.SCHEMA.actions[:2], buy))
    settings, plain = here.settings, here.settings
    here.settings = msgspec.structs.replace(settings, trainer=msgspec.structs.replace(settings.trainer, schema=own))
    trainer, releases = here.start()
    assert trainer.trained > 0
    update = here.release(trainer, releases, 10)
    assert update is not None
    assert read_manifest(tmp_path / "registry" / "default" / update.version).schema == own
    here.settings = plain
    trainer, releases = here.start()
    assert trainer.schema == own
    releases.announced(here.model_update(here.first, "promoted"))
    releases.comply()
    assert (trainer.schema, trainer.versions.serving.schema) == (stream.SCHEMA, stream.SCHEMA)


def test_recipe_and_sizes_are_handed_on(tmp_path: Path) -> None:
    """What a bundle was made with is what its trainer goes on with, and what the next one reads in the child."""
    here = Installation(tmp_path)
    recipe = Recipe(calibration=0.7, weight_decay=0.01, id_dropout=0.1, neighbours=4, sizes={"d": 16, "layers": 2})
    model = tiny_model(stream.SCHEMA)
    about = Provenance(
        model="default", schema=stream.SCHEMA, encoder="tiny", created=now_ms(), version=new_version(now_ms()),
        recipe=recipe,
    )  # fmt: skip
    publish_model(model, tiny_tables(model.config, ["item-1"]), about, here.settings.registry.address)
    here.first = about.version
    for _ in range(2):
        trainer, releases = here.start()
        assert (trainer.recipe, trainer.learner.recipe, trainer.learner.config) == (recipe, recipe, model.config)
        trainer.learn(stream.examples(20, seed=trainer.trained), 0)
        update = here.release(trainer, releases, 10)
        assert update is not None
        child = read_manifest(tmp_path / "registry" / "default" / update.version)
        assert (child.recipe, child.config) == (msgspec.to_builtins(recipe), model.config.to_dict())


def test_a_restart_knows_which_rows_workers_lack(tmp_path: Path) -> None:
    """Deltas after a restart go on from the bundle that serves, not from nothing."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    examples = stream.examples(60)
    trainer.learn(examples[:30], 0, {"examples-0": 30})
    update = here.release(trainer, releases, 10)
    assert update is not None
    trainer, releases = here.start()
    assert [live.version for live in trainer.versions.live] == [update.version]
    assert trainer.deltas(20) == []
    trainer.learn(examples[30:35], 21, {"examples-0": 35})
    assert [delta.base for delta in trainer.deltas(30)] == [update.version]


def test_learning_goes_on_from_what_an_operator_made_serve(tmp_path: Path) -> None:
    """A rollback to an older version is one for the trainer too: weights and rows are that version's."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(60), 0)
    here.release(trainer, releases, 10)
    releases.announced(here.model_update(here.first, "promoted"))
    releases.comply()
    first = fetch_origin(here.settings.trainer, here.first)
    assert trainer.versions.serving.version == here.first
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), first.weights[name].numpy())
    trainer.learn(stream.examples(20, seed=1), 20)
    assert [delta.base for delta in trainer.deltas(30)] == [here.first]


def test_a_rollback_takes_counts_and_memory_back(tmp_path: Path) -> None:
    """What was learned after the version was made comes again neither by counts, nor by replay, nor by the examples."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    examples = stream.examples(60)
    trainer.learn(examples[:30], 0, {"examples-0": 30})
    good = here.release(trainer, releases, 10)
    kept = fetch_origin(here.settings.trainer, good.version)
    trainer.learn(examples[30:], 20, {"examples-0": 60})
    here.release(trainer, releases, 30)
    releases.announced(here.model_update(good.version, "pinned"))
    releases.comply()
    now = trainer.table_arrays()
    for name in ("items", "statistics", "neighbours", "strengths"):
        np.testing.assert_array_equal(getattr(now, name), getattr(kept.tables, name))
    assert len(trainer.replay) > 0
    assert max(entry.ts for entry in trainer.replay.entries) <= kept.learned_until < examples[-1].ts
    assert trainer.learn(examples, 40).trained == 0


def test_a_version_made_elsewhere_leaves_counts_and_memory(tmp_path: Path) -> None:
    """It knows nothing of the stream: what was counted there is still true."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(60), 0, {"examples-0": 60})
    here.release(trainer, releases, 10)
    counted, remembered = trainer.learner.tables.statistics.copy(), len(trainer.replay)
    elsewhere = tiny_bundle(tmp_path / "registry", stream.SCHEMA, seed=5)
    releases.announced(here.model_update(elsewhere, "promoted"))
    releases.comply()
    assert trainer.versions.serving.version == elsewhere
    np.testing.assert_array_equal(trainer.learner.tables.statistics, counted)
    assert len(trainer.replay) == remembered > 0


@pytest.mark.parametrize("killed", [True, False])
def test_an_operators_version_outlives_a_return_to_an_older_checkpoint(tmp_path: Path, killed: bool) -> None:
    """The newest checkpoint may be of before a rollback, when the trainer is killed or its loss diverges: learning goes
    on from the operator's version all the same, and sends it deltas. The next checkpoint knows that."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    now = now_ms() + 1000  # versions are sorted by their time
    trainer.learn(stream.examples(60), now)
    here.release(trainer, releases, now)
    here.updates.append(here.model_update(here.first, "pinned"))
    if killed:
        trainer, releases = here.start()
    else:
        releases.announced(here.updates[-1])
        assert releases.comply()
        releases.roll_back()
    first = fetch_origin(here.settings.trainer, here.first)
    for name, value in trainer.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), first.weights[name].numpy())
    trainer.learn(stream.examples(20, seed=1), 20)
    assert [delta.base for delta in trainer.deltas(30)] == [here.first]
    releases.save(capture(trainer))
    again, _ = here.start()
    for name, value in again.optimisation.merged_weights().items():
        np.testing.assert_array_equal(value.numpy(), trainer.optimisation.merged_weights()[name].numpy())


@pytest.mark.parametrize("decided", ["pinned", "canary", "promoted"])
def test_what_was_decided_while_a_draft_was_written_stands(tmp_path: Path, decided: str) -> None:
    """A pin, a canary or another version made to serve: the draft is rejected, counted, and takes no deltas."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    other = tiny_bundle(tmp_path / "registry", stream.SCHEMA, seed=1)
    trainer.learn(stream.examples(30), 0)
    draft = releases.draft(10)
    update = releases.write(draft)
    assert update is not None
    releases.announced(here.model_update(here.first if decided == "pinned" else other, decided))
    assert not releases.confirm(draft, update)
    releases.comply()
    serving = other if decided == "promoted" else here.first
    assert trainer.versions.serving.version == serving
    assert trainer.versions.unsent.versions == [serving]
    counted = releases._metrics.registry.get_sample_value
    assert counted("liverank_trainer_bundles_total", {"decision": "rejected"}) == 1
    assert counted("liverank_trainer_bundles_total", {"decision": "promoted"}) is None


def test_a_draft_goes_out_where_nothing_was_decided_meanwhile(tmp_path: Path) -> None:
    """A canary that has ended again, and what serves named once more, are no reason against it."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(30), 0)
    draft = releases.draft(10)
    update = releases.write(draft)
    assert update is not None
    for version, stage in (("other", "canary"), ("other", "rolled-back"), (here.first, "promoted")):
        releases.announced(here.model_update(version, stage))
        releases.comply()
    trainer.learn(stream.examples(20, seed=1), 20)
    assert releases.confirm(draft, update)
    releases.announced(update)
    releases.comply()
    assert [delta.base for delta in trainer.deltas(30)] == [update.version], "it hears of what was learned meanwhile"


def test_nothing_starts_while_a_version_is_pinned(tmp_path: Path) -> None:
    """Learning and checkpoints go on; no bundle is announced until something is promoted."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    releases.announced(here.model_update(here.first, "pinned"))
    trainer.learn(stream.examples(30), 0)
    assert here.release(trainer, releases, 10) is None
    state = newest_checkpoint(here.settings.trainer.data)
    assert state is not None
    assert state.facts["trained"] == trainer.trained > 0
    releases.announced(here.model_update(here.first, "promoted"))
    assert here.release(trainer, releases, 20) is not None


def test_one_canary_at_a_time(tmp_path: Path) -> None:
    """It takes deltas beside what serves, survives a restart, and once it fails another may start."""
    here = Installation(tmp_path, canary_share=0.1)
    trainer, releases = here.start()
    examples = stream.examples(90)
    trainer.learn(examples[:30], 0)
    canary = here.release(trainer, releases, 10)
    assert canary is not None
    assert (canary.stage, canary.share) == ("canary", 0.1)
    trainer.learn(examples[30:60], 20)
    assert {delta.base for delta in trainer.deltas(25)} == {here.first, canary.version}
    assert here.release(trainer, releases, 30) is None
    trainer, releases = here.start()
    trainer.learn(examples[60:], 40)
    assert {delta.base for delta in trainer.deltas(45)} == {here.first, canary.version}
    here.updates.append(here.model_update(canary.version, "rolled-back"))
    releases.announced(here.updates[-1])
    releases.comply()
    assert [live.version for live in trainer.versions.live] == [here.first]
    assert here.release(trainer, releases, 50) is not None


def test_pruning_keeps_what_serves(tmp_path: Path) -> None:
    """The newest few, what serves, what served before, and the first model stay; and what a person trained, which may
    wait to be promoted.
    """
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trained = tiny_bundle(tmp_path / "registry", stream.SCHEMA, seed=1)
    hour = 3_600_000
    made, now = [], (now_ms() // hour + 1) * hour  # versions sort by their time; all are of one hour
    for round_ in range(6):
        trainer.learn(stream.examples(5, seed=round_), now)
        update = here.release(trainer, releases, now + 1000 * (round_ + 1))
        assert update is not None
        made.append(update.version)
        releases.prune()
    left = registry_versions(here.settings.registry.address, "default")
    assert left == [here.first, trained, *made[-2:]]


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    """Half a bundle of yesterday goes, one that may still be on its way stays, and so does what is no version."""
    here = Installation(tmp_path)
    data, home = here.settings.trainer.data, tmp_path / "registry" / "default"
    now = now_ms()
    old, new = (new_version(now - hours * 3_600_000) for hours in (30, 1))
    stay = [home / f".{new}.tmp", home / "1-notes", home / new]
    go = [home / f".{old}.tmp", home / f".{old}.0a1b2c.tmp", home / old, data / ".graphs-1", data / ".bundle-x"]
    for folder in (*stay, *go):
        folder.mkdir(parents=True)
        (folder / "extend.onnx").write_bytes(b"half")
    trainer, releases = here.start()
    trainer.learn(stream.examples(5), now)
    assert here.release(trainer, releases, now) is not None
    releases.prune()
    assert [folder.exists() for folder in (*stay, *go)] == [True] * len(stay) + [False] * len(go)
    assert here.first in registry_versions(here.settings.registry.address, "default")


def test_sweeping_takes_nothing_that_is_needed(tmp_path: Path) -> None:
    """Whatever serves, served or may serve stays though its manifest is gone; so does all, where nobody can look."""
    here = Installation(tmp_path)
    home, now = tmp_path / "registry" / "default", now_ms()
    serving, previous, canary, half = (new_version(now - hours * 3_600_000) for hours in (40, 30, 20, 10))
    for version in (serving, previous, canary, half):
        (home / version).mkdir()
    (home / here.first / MANIFEST).unlink()
    known = Stages(serving=serving, previous=previous, canary=canary, pinned=True)
    prune_registry(here.settings.trainer, known, {here.first})
    assert {path.name for path in home.iterdir()} == {here.first, serving, previous, canary}


def test_a_registry_that_does_not_answer_has_no_half_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`exists` says no where it fails: that must delete nothing, and pruning waits for the next time."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    old = new_version(now_ms() - 30 * 3_600_000)
    home = tmp_path / "registry" / "default"
    (home / here.first).rename(home / old)
    trainer.versions.first.version = "another"

    def down(self: object, path: str, *args: object, **more: object) -> list:
        if str(path).rstrip("/").endswith(old):
            raise OSError("no answer")
        return listing(self, path, *args, **more)

    listing = LocalFileSystem.ls
    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "exists", lambda *_, **__: False)
        patched.setattr(LocalFileSystem, "ls", down)
        releases.prune()
    assert registry_versions(here.settings.registry.address, "default") == [old]


def test_a_registry_that_goes_down_after_a_bundle_ends_nothing(tmp_path: Path) -> None:
    """Pruning is for the next time."""
    here = Installation(tmp_path)
    _, releases = here.start()
    releases._settings = changed(here.settings, registry="nowhere://at-all").trainer
    releases.prune()


def test_a_candidate_with_broken_weights_never_leaves(tmp_path: Path) -> None:
    """Not a number anywhere: refused before the registry, and what serves goes on serving."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0)
    trainer.optimisation.average["model.outcomes.bias"][0] = float("nan")
    assert here.release(trainer, releases, 10) is None
    assert registry_versions(here.settings.registry.address, "default") == [here.first]
    assert trainer.versions.serving.version == here.first


def test_a_registry_that_is_down_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate is lost, the checkpoint is not, and the next one goes out."""
    here = Installation(tmp_path)
    trainer, releases = here.start()
    trainer.learn(stream.examples(20), 0)

    def down(*_: object) -> None:
        raise OSError("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(origins, "publish_bundle", down)
        assert here.release(trainer, releases, 10) is None
    trainer.learn(stream.examples(20, seed=1), 20)
    assert here.release(trainer, releases, 30) is not None
