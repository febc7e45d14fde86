"""What a worker makes of versions of another schema: none of them is a fault, and none may change what rows mean."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from liverank.settings import Settings, changed
from ranker.contracts.errors import BundleError, OtherInputs
from ranker.contracts.records import ModelUpdate
from ranker.contracts.schema import Action, FeatureSchema
from ranker.items.catalog import Catalog
from ranker.rollout.stages import CANARY, PROMOTED
from ranker.serving.slot import ModelSlot
from streams.models.loader import copies, fetch_copy, load_version
from streams.models.manager import ModelManager
from streams.telemetry.metrics import Metrics
from tests.support.tiny import tiny_bundle

BUILT_IN = FeatureSchema().actions
SAVE, CART = Action(name="save"), Action(name="cart")
LATER = FeatureSchema(actions=(*BUILT_IN, SAVE))


class Place:
    """A worker's models over a registry, without a broker."""

    def __init__(self, folder: Path) -> None:
        self.registry = folder / "registry"
        self.settings = changed(Settings(), registry=str(self.registry), data=folder / "data").worker
        self.metrics, self.unfit = Metrics(), list[str]()
        self.manager = ModelManager(self.settings, self.metrics, self._failed)
        self.manager._unfit = lambda version, reason: self.unfit.append(version)
        self.catalog = Catalog()

    def _failed(self, error: BaseException) -> None:
        raise error

    def serve(self, version: str) -> None:
        """Start with this version."""
        folder = fetch_copy(self.settings, version, None)
        self.manager.catalog = self.catalog
        self.manager.slot = ModelSlot(load_version(self.settings, folder, self.catalog, None, []))

    async def announce(self, version: str, stage: str) -> None:
        """Hear of a version, and go along."""
        digest = msgspec.json.encode(
            ModelUpdate(
                model="default", version=version, sha256=_digest(self.registry, version), stage=stage, share=0.5
            )
        )
        self.manager._announced(SimpleNamespace(value=digest, topic="model-updates", offset=0))
        await self.manager._comply()

    @property
    def serving(self) -> str:
        """What serves those who are no canary's."""
        assert self.manager.slot.current is not None
        return self.manager.slot.current.version

    def value(self, name: str) -> float:
        """A number of the worker's page."""
        return self.metrics.registry.get_sample_value(name) or 0.0


def _digest(registry: Path, version: str) -> str:
    from ranker.registry.address import sha256

    return sha256(registry / "default" / version / "manifest.json")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    made.manager._loader.shutdown()


async def test_a_worker_waits_for_its_restart_and_says_so_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on with what it serves, counts no rejected bundle, fetches nothing; back again it swaps as ever."""
    first = tiny_bundle(place.registry)
    place.serve(first)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await place.announce(tiny_bundle(place.registry, LATER), PROMOTED)
    (told,) = [record.getMessage() for record in caplog.records if record.name == "streams.models.manager"]
    assert "this worker has to be started again" in told
    assert "the action 'save' is new" in told
    assert (place.serving, place.value("liverank_restart_needed")) == (first, 1)
    assert place.value("liverank_model_rejected_total") == 0
    assert [path.name for path in copies(place.settings).iterdir()] == [first]
    again = tiny_bundle(place.registry, seed=1)
    await place.announce(again, PROMOTED)
    assert (place.serving, place.value("liverank_restart_needed")) == (again, 0)


async def test_a_worker_that_waits_has_no_say_about_canaries(place: Place) -> None:
    """Those of the schema that it lacks are for others to judge; its own canary ends, being beside the old one."""
    place.serve(tiny_bundle(place.registry))
    await place.announce(tiny_bundle(place.registry, seed=1), CANARY)
    assert place.manager.slot.canary is not None
    await place.announce(tiny_bundle(place.registry, LATER), PROMOTED)
    assert place.manager.slot.canary is None
    await place.announce(tiny_bundle(place.registry, LATER, seed=1), CANARY)
    assert (place.unfit, place.manager.slot.canary) == ([], None)


async def test_a_canary_of_another_schema_than_what_serves_is_unfit(place: Place) -> None:
    """No worker could ever have both: nobody is to wait for it."""
    place.serve(tiny_bundle(place.registry))
    canary = tiny_bundle(place.registry, LATER)
    await place.announce(canary, CANARY)
    assert place.unfit == [canary]


async def test_nothing_that_would_change_what_rows_mean_is_loaded(place: Place) -> None:
    """Neither beside what serves, nor at a start after what served here before, whatever the topic says."""
    before = tiny_bundle(place.registry, FeatureSchema(actions=(*BUILT_IN, CART, SAVE)))
    place.serve(before)
    turned = tiny_bundle(place.registry, FeatureSchema(actions=(*BUILT_IN, SAVE, CART)))
    for like in (place.manager.slot.current, None):
        with pytest.raises(BundleError, match=r"number 2 is 'cart' there and 'save' here: append") as refused:
            fetch_copy(place.settings, turned, None, like)
        assert not isinstance(refused.value, OtherInputs)
    shutil.rmtree(copies(place.settings))
    assert fetch_copy(place.settings, turned, None).name == turned, "nothing was ever served here"
