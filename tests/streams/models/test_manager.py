"""What a worker does with a version that was loaded for nothing: another one was announced meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from liverank.settings import Settings, changed
from ranker.contracts.records import ModelUpdate
from ranker.registry.bundle import signer
from ranker.registry.signatures import new_key_pair
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from streams.models.manager import ModelManager
from streams.telemetry.metrics import Metrics


class Model:
    """Has a version, and can be let go of."""

    def __init__(self, version: str) -> None:
        self.version, self.closed, self.users = version, 0, 3

    def close(self) -> None:
        """As `ServingModel.close`."""
        self.closed += 1

    def forget_some(self, most: int) -> int:
        """As `ServingModel.forget_some`."""
        self.users, left = 0, self.users
        return left


@pytest.mark.parametrize("stage", ["promoted", "canary"])
async def test_what_is_overtaken_while_it_loads_never_serves(stage: str) -> None:
    """Nobody is ranked for by it, not even for a moment, and what it holds is freed."""
    models = ModelManager(changed(Settings(), model="m").worker, Metrics(), lambda error: None)
    models.slot = ModelSlot(cast(ServingModel, Model("old")))
    loaded: list[Model] = []
    served: list[str] = []

    def announce(version: str) -> None:
        update = ModelUpdate(model="m", version=version, sha256="", stage=stage, share=0.5)
        models._announced(SimpleNamespace(value=msgspec.json.encode(update), topic="model-updates", offset=0))

    async def load(version: str, share: float) -> ServingModel:
        loaded.append(Model(version))
        if version == "first":
            announce("second")
        return cast(ServingModel, loaded[-1])

    models._load = load  # type: ignore[method-assign]
    models._swapped = lambda model, how: served.append(model.version)  # type: ignore[method-assign]
    announce("first")
    await models._comply()
    assert models._changed.is_set()
    await models._comply()
    models._loader.shutdown()
    first, second = loaded
    assert served == ["second"]
    assert (first.closed, first.users) == (1, 0)
    assert (second.closed, second.users) == (0, 3)
    assert {model.version for model in models.slot.serving.models} == {"old", "second"}


async def test_a_registry_that_takes_no_starter_is_told_seldom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at every second, and a worker may wait there for hours, as where it may only read."""
    (tmp_path / "registry").write_text("no folder")
    where = {"registry": tmp_path / "registry" / "in it", "data": tmp_path / "data"}
    models = ModelManager(changed(Settings(), **where).worker, Metrics(), lambda error: None)
    for _ in range(5):
        assert models._choices() == []
        models._looks += 1
    assert caplog.text.count("cannot be written") == 1


async def test_no_starter_is_made_that_nobody_would_take(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where signatures count and the worker has no key it waits for a bundle, and says why once; else it signs."""
    private, public = new_key_pair()
    where = {"registry": tmp_path / "registry", "data": tmp_path / "data"}
    settings = changed(Settings(), require_signatures=True, public_keys=f"me={public}", **where)
    models = ModelManager(settings.worker, Metrics(), lambda error: None)
    assert models._choices() == models._choices() == []
    assert not (tmp_path / "registry").exists()
    assert caplog.text.count("no starter is made: require_signatures is set") == 1
    monkeypatch.setenv("LIVERANK_SIGNING_KEY", private)
    (version,) = models._choices()
    assert signer(settings.registry, version) == "signed by me"
