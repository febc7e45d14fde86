"""What becomes of a canary's clicks: each trial is decided once, by its own evidence alone."""

from __future__ import annotations

from typing import cast

import msgspec
from prometheus_client import CollectorRegistry

from liverank.settings import Settings, changed
from ranker.contracts.records import ModelUpdate
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from streams.kafka.outbox import Outbox
from streams.models.canary_watch import CanaryWatch
from streams.telemetry.model_metrics import ModelMetrics

START, WINDOW_MS = 1_700_000_000_000, Settings().worker.attribution_ms


class Model:
    """Has a version, and can be let go of."""

    def __init__(self, version: str) -> None:
        self.version = version

    def close(self) -> None:
        """As `ServingModel.close`."""


class Sent:
    """Keeps what is announced."""

    def __init__(self) -> None:
        self.updates: list[ModelUpdate] = []

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """As `Outbox.send`."""
        assert (topic, key) in (("model-updates", b"m"), ("model-updates", b"m/canary"))
        self.updates.append(msgspec.json.decode(value, type=ModelUpdate))


def model(version: str) -> ServingModel:
    """A loaded model, as far as the watch looks at it."""
    return cast(ServingModel, Model(version))


def watched(share: float = 1.0, **settings: object) -> tuple[CanaryWatch, ModelSlot, list[ModelUpdate]]:
    """A watch over a slot in which `old` serves, and what it announces."""
    slot, sent = ModelSlot(model("old")), Sent()
    metrics = ModelMetrics(CollectorRegistry())
    given = changed(Settings(), model="m", **settings).worker
    return CanaryWatch(given, slot, {"new": "5ha"}, cast(Outbox, sent), metrics, lambda: share), slot, sent.updates


class People:
    """Look at lists, one after the other, and click or not."""

    def __init__(self, watch: CanaryWatch) -> None:
        self._watch, self._now = watch, START

    def click(self, count: int, canary: int, current: int) -> None:
        """So many lists on each side, the clicked items at these ranks."""
        for _ in range(count):
            for version, rank in (("new", canary), ("old", current)):
                self._now += 1
                self._watch.clicked(version, rank, self._now, self._now)

    def ignore(self, version: str, count: int) -> None:
        """So many lists of a version whose time passes, and which draw nothing."""
        for _ in range(count):
            self._now += 1
            self._watch.ignored(version, self._now - WINDOW_MS, self._now)

    def wait(self, ms: int = 2 * WINDOW_MS) -> None:
        """Until the time of all lists is over, which the next event tells; it is of a version that is on no trial."""
        self._now += ms
        self._watch.clicked("older", 1, self._now, self._now)


def test_a_trial_is_decided_once() -> None:
    """By clear clicks, with the numbers as the reason, and what serves named for those who read only the newest."""
    watch, slot, updates = watched()
    people = People(watch)
    slot.set_canary(model("new"), 0.5)
    people.click(49, canary=5, current=1)
    watch.look()
    assert updates == []
    people.click(100, canary=5, current=1)
    watch.look()
    watch.look()
    (update,) = updates
    assert (update.version, update.stage, update.previous, update.measured) == ("new", "rolled-back", "old", True)
    assert update.sha256 == "5ha"
    assert "0.2000 on 149 against 1.0000 on 149" in (update.reason or "")


def test_a_canary_that_is_tried_again_is_another_trial() -> None:
    """Its first trial's clicks do not count, and it is decided about again, whether or not anyone looked in between."""
    for looks in (True, False):
        watch, slot, updates = watched()
        people = People(watch)
        slot.set_canary(model("new"), 0.5)
        people.click(150, canary=5, current=1)
        watch.look()
        slot.set_canary(None)
        if looks:
            watch.look()
        slot.set_canary(model("new"), 0.5)
        people.click(149, canary=1, current=5)
        people.wait()
        watch.look()
        assert [update.stage for update in updates] == ["rolled-back", "promoted"]


def test_one_that_fails_is_ended_whatever_its_clicks_say() -> None:
    """With what failed."""
    watch, slot, updates = watched()
    people, canary = People(watch), model("new")
    slot.set_canary(canary, 0.5)
    people.click(150, canary=1, current=5)
    watch.failed(canary, ValueError("bad shape"))
    watch.look()
    assert [(update.stage, "bad shape" in (update.reason or "")) for update in updates] == [("rolled-back", True)]


def test_one_that_nobody_decides_about_ends() -> None:
    """So that the next one can begin."""
    watch, slot, updates = watched(canary_s=0.0)
    slot.set_canary(model("new"), 0.5)
    watch.look()
    assert [update.stage for update in updates] == ["rolled-back"]
    assert "undecided" in (updates[0].reason or "")


def test_one_that_does_not_load_is_ended() -> None:
    """Otherwise it would be announced for ever, and the trainer would start no other."""
    watch, _, updates = watched()
    watch.refused("new", "changed: score.onnx was changed")
    assert [(update.version, update.stage, update.measured) for update in updates] == [("new", "rolled-back", True)]
    assert "score.onnx was changed" in (updates[0].reason or "")


def test_workers_share_the_chance_of_being_wrong() -> None:
    """One that has a tenth of the users asks for more evidence than one that has all of them; any of the ten may be
    the first to announce."""
    needed = []
    for share in (1.0, 0.1):
        watch, slot, updates = watched(share, canary_least=1)
        slot.set_canary(model("new"), 0.5)
        people, clicks = People(watch), 0
        while not updates:
            people.click(1, canary=1, current=3)
            people.click(1, canary=5, current=2)
            people.wait()
            watch.look()
            clicks += 1
        needed.append(clicks)
        assert updates[0].stage == "promoted"
    assert needed[1] > needed[0]


def test_another_version_to_compare_with_begins_another_trial() -> None:
    """Clicks on what served before say nothing about what serves now; a failure of the canary does."""
    watch, slot, updates = watched(canary_least=50)
    people, canary = People(watch), model("new")
    slot.set_canary(canary, 0.5)
    people.click(200, canary=5, current=1)
    slot.swap(model("newer"))
    watch.look()
    assert updates == []
    watch.failed(canary, ValueError("no"))
    slot.swap(model("newest"))
    watch.look()
    (update,) = updates
    assert (update.version, update.stage, update.previous) == ("new", "rolled-back", "newest")


def test_lists_that_draw_nothing_count() -> None:
    """A canary whose people click as far up, but half as often, is rolled back; one like the other is promoted."""
    for ignored, stage in ((50, "rolled-back"), (10, "promoted")):
        watch, slot, updates = watched(canary_margin=0.2)
        people = People(watch)
        slot.set_canary(model("new"), 0.5)
        people.wait()
        for _ in range(60):
            people.click(20, canary=2, current=2)
            people.wait()
            people.ignore("new", ignored)
            people.ignore("old", 10)
            people.wait()
            watch.look()
        (update,) = updates
        assert update.stage == stage, update.reason
        assert "clicks per list" in (update.reason or "")


def test_no_list_counts_before_its_time_is_over() -> None:
    """At first only lists that drew a click are known: nothing is promoted by them."""
    watch, slot, updates = watched()
    people = People(watch)
    slot.set_canary(model("new"), 0.5)
    people.click(400, canary=1, current=1)
    watch.look()
    assert updates == []
    people.wait()
    watch.look()
    assert [update.stage for update in updates] == ["promoted"]


def test_lists_of_before_a_trial_do_not_count() -> None:
    """Those of them that drew a click drew it before: what is left of them would speak against what serves."""
    watch, slot, updates = watched()
    people = People(watch)
    people.wait()
    slot.set_canary(model("new"), 0.5)
    people.ignore("old", 500)
    people.ignore("new", 100)
    watch.look()
    assert updates == []
    people.wait()
    people.ignore("old", 100)
    people.ignore("new", 500)
    watch.look()
    assert updates == [], "as many on each side, and none of them drew anything"
