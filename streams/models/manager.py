"""The worker's models: follows `model-updates` and `model-deltas`, loads what is announced, and swaps.

The control topic alone says what serves. A worker reads it from the beginning, so all of them, and one that starts
later, come to the same answer. A version is loaded on a thread of its own beside the serving one; then one reference
changes between two batches. A bundle that must not serve is an error on the log and a count by reason, and the model
that serves goes on. One of another schema is no fault: this worker goes on as it is until it is started anew, and has
no say about canaries meanwhile, which others may be able to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any

import msgspec

from ranker.contracts.decoding import decoded
from ranker.contracts.errors import BundleError, OtherInputs, SchemaError
from ranker.contracts.records import ModelDelta, ModelUpdate
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import MODEL_DELTAS, MODEL_UPDATES
from ranker.items.catalog import Catalog
from ranker.registry.bundle import newest_version, read_manifest
from ranker.registry.settings import shown_address
from ranker.registry.signatures import check_signing
from ranker.rollout.canary import takes_part
from ranker.rollout.stages import Stages, follow
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from ranker.starter.bundle import publish_starter
from streams.kafka.faults import FATAL
from streams.kafka.follower import Follower
from streams.models.deltas import Deltas
from streams.models.loader import fetch_copy, keep_copies, load_version, local_versions, take_apart
from streams.settings import WorkerSettings
from streams.state.recent import RecentRows
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_REGISTRY_EVERY_S = 1.0
_WAITING_EVERY = 30  # looks into an empty registry between two lines that say so
#: Users whose encodings a new model has before it serves.
_WARMED = 256
_MANIFESTS = 1024  # announced last, whose hashes are known
_RETRIES = 6  # of a bundle that is not there, the wait doubling from a second

_update = msgspec.json.Decoder(ModelUpdate)
_delta = msgspec.json.Decoder(ModelDelta)


class ModelManager:
    """Keeps the slot as the control topic says. Belongs to the event loop."""

    slot: ModelSlot
    catalog: Catalog

    def __init__(self, settings: WorkerSettings, metrics: Metrics, failed: Callable[[BaseException], None]) -> None:
        """
        Args:
            settings: of the worker.
            metrics: counts.
            failed: takes what ended the following of a topic.
        """
        self._settings, self._metrics, self._failed = settings, metrics, failed
        self.recent = RecentRows()
        self.deltas = Deltas(metrics.models)
        self.manifests: dict[str, str] = {}  # version -> sha256 of its manifest, as announced
        self._stages = Stages()
        self._changed = asyncio.Event()
        self._refused: set[str] = set()
        self._behind = False  # what serves elsewhere has other inputs than what this worker started with
        self._retried: dict[str, int] = {}
        self._loading: str | None = None
        self._told_unsigned = False  # that no starter is made, since nobody would take it
        self._looks = 0  # for a first version
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        updates = {MODEL_UPDATES: self._announced}
        self._followers = [Follower(settings.broker, updates, failed, set_aside=metrics.set_aside)]
        self._task: asyncio.Task[None] | None = None
        self._wake: Callable[[], None] = lambda: None
        self._unfit: Callable[[str, str], None] = lambda version, reason: None

    async def start(self) -> None:
        """Read the control topic and load what is to serve: `slot` and `catalog` are there from then on.

        Where there is none, a starter model is made, or, if the settings say so, a first bundle is waited for.

        Raises:
            BundleError: there are bundles, and none of them may serve.
        """
        await self._followers[0].start()
        model = await self._first()
        self.slot = slot = ModelSlot(model)
        self._metrics.models.learned_until.set_function(
            lambda: slot.current.learned_until / 1000 if slot.current else 0
        )
        self._show()

    async def follow(self, wake: Callable[[], None], unfit: Callable[[str, str], None]) -> None:
        """Go along with the control topic from now on.

        Args:
            wake: has the scorer thread look into `deltas`, also where there is nothing to rank.
            unfit: takes a canary that must not serve, and why.
        """
        assert self.slot.current is not None
        self._wake, self._unfit = wake, unfit
        deltas = Follower(
            self._settings.broker, {MODEL_DELTAS: self._received}, self._failed,
            self.slot.current.manifest.created, self._metrics.set_aside,
        )  # fmt: skip
        self._followers.append(deltas)
        await deltas.start()
        self._changed.set()
        self._task = asyncio.create_task(self._comply_forever())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for follower in self._followers:
            await follower.stop()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _announced(self, record: Any) -> None:
        update = decoded(_update, record.value or b"")
        if update.model == self._settings.registry.model:
            self._stages = follow(self._stages, update)
            self.manifests.pop(update.version, None)
            self.manifests[update.version] = update.sha256
            while len(self.manifests) > _MANIFESTS:
                self.manifests.pop(next(iter(self.manifests)))
            self._refused.discard(update.version)
            self._retried.pop(update.version, None)
            self._changed.set()

    def _received(self, record: Any) -> None:
        delta = decoded(_delta, record.value or b"")
        if delta.model == self._settings.registry.model and self.deltas.receive(delta):
            self._wake()

    async def _comply_forever(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._comply()
        except Exception as error:
            self._failed(error)

    async def _comply(self) -> None:
        """Make the slot what the stages say, as far as bundles allow it."""
        slot, stages = self.slot, self._stages
        if slot.canary is not None and slot.canary.version not in (stages.canary, stages.serving):
            log.info("%s is no canary any more", slot.canary.version)
            self._dismiss(slot.set_canary(None))
            self._show()
        if stages.serving is not None:
            model = await self._obtain(stages.serving, 1.0)
            if model is not None:
                self._stay_behind(False)
            if model is not None and self._stages.serving != model.version:
                self._let_go(model)  # while it loaded, another one was made to serve
            elif model is not None and model is not slot.current:
                self._dismiss(slot.swap(model))
                self._swapped(model, "serves")
        stages = self._stages
        if stages.canary is not None and not self._behind:
            model = await self._obtain(stages.canary, stages.share)
            if model is not None and self._stages.canary != model.version:
                self._let_go(model)
            elif model is not None and self._changes_canary(model):
                self._dismiss(slot.set_canary(model, self._stages.share))
                self._swapped(model, f"serves {self._stages.share:.0%} of the users")

    def _changes_canary(self, model: ServingModel) -> bool:
        serving = self.slot.serving
        return (serving.canary, serving.share) != (model, self._stages.share)

    async def _obtain(self, version: str, share: float) -> ServingModel | None:
        """A loaded model: one that is here, or a new one; None where it must not serve."""
        for model in self.slot.serving.models:
            if model.version == version:
                return model
        if version in self._refused:
            return None
        self._loading = version
        self._want()
        began = monotonic()
        try:
            model = await self._load(version, share)
        except OtherInputs as error:
            if version == self._stages.canary:
                self._refuse(version, error)  # it is no canary of what serves
            elif version == self._stages.serving:
                self._stay_behind(True, error)
            return None
        except BundleError as error:
            self._refuse(version, error)
            return None
        finally:
            self._loading = None
        self._metrics.models.load_seconds.observe(monotonic() - began)
        return model

    async def _load(self, version: str, share: float) -> ServingModel:
        users = self.recent.newest(_WARMED if share >= 1 else 2 * _WARMED)
        rows = [row for row in users if share >= 1 or takes_part(row[0], version, share)][:_WARMED]
        model: ServingModel = await self._on_loader(
            self._load_now, version, self.manifests.get(version), self.slot.current, rows
        )
        for user_id, _ in rows:
            if user_id not in self.recent:  # forgotten meanwhile, or long not seen
                model.forget(user_id)
        return model

    def _load_now(self, version: str, sha256: str | None, like: ServingModel | None, rows: Any) -> ServingModel:
        folder = fetch_copy(self._settings, version, sha256, like)
        if like is None:
            self.catalog = Catalog(read_manifest(folder).schema.item_numeric)
        try:
            return load_version(self._settings, folder, self.catalog, like, rows)
        except FATAL:
            raise
        except Exception as error:
            log.error("%s cannot be loaded, and that is a fault of ours or of its files", version, exc_info=error)
            raise BundleError(f"{version} cannot be loaded: {error!r}") from error

    def _stay_behind(self, behind: bool, why: BundleError | None = None) -> None:
        """Whether only a worker that starts anew can serve what serves; said once, since the trainer goes on making
        such versions.
        """
        if behind == self._behind:
            return
        self._behind = behind
        self._metrics.models.restart_needed.set(behind)
        if behind:
            log.warning("this worker has to be started again, and serves on as it is until then: %s", why)
            self._dismiss(self.slot.set_canary(None))
            self._show()

    def _refuse(self, version: str, error: BundleError) -> None:
        """Not this one. Where it is only not there, it is looked for again for a while."""
        self._refused.add(version)
        self._metrics.models.rejected.labels(error.reason).inc()
        tried = self._retried[version] = self._retried.get(version, 0) + 1
        serving = self.slot.current
        log.error("%s does not serve (%s): %s; %s goes on", version, error.reason, error, serving and serving.version)
        if error.reason == "missing" and tried <= _RETRIES:
            asyncio.get_running_loop().call_later(2 ** (tried - 1), self._again, version)
        elif version == self._stages.canary:
            self._unfit(version, f"{error.reason}: {error}")

    def _again(self, version: str) -> None:
        self._refused.discard(version)
        self._changed.set()

    def _swapped(self, model: ServingModel, how: str) -> None:
        log.info("%s %s", model.version, how)
        self._metrics.models.swaps.inc()
        self._show()
        previous = self.slot.previous
        if previous is not None and not self.slot.serving.share_of(previous):
            self._loader.submit(take_apart, previous)  # it is kept for a rollback, without what it knew of users
        self._loader.submit(keep_copies, self._settings, [one.version for one in self.slot.serving.models])

    def _dismiss(self, models: list[ServingModel]) -> None:
        """Models that leave are freed beside what serves, not by whoever swaps."""
        while models:
            self._loader.submit(take_apart, models.pop())

    def _let_go(self, model: ServingModel) -> None:
        """A model that is not wanted any more; where it was loaded for nothing, it is freed."""
        if not any(model is one for one in self.slot.serving.models):
            model.close()
            self._dismiss([model])
        self._want()

    def _show(self) -> None:
        current, canary = self.slot.current, self.slot.canary
        assert current is not None
        for model in self.slot.serving.models:
            model.limit(self.slot.serving.share_of(model))
        self._metrics.model(current.version)
        self._metrics.models.stages(current.version, None if canary is None else canary.version)
        self._want()
        self._wake()

    def _want(self) -> None:
        versions = {model.version for model in self.slot.serving.models}
        self.deltas.want(versions | ({self._loading} if self._loading else set()))

    async def _first(self) -> ServingModel:
        """What the control topic names, else the newest of the registry, else a copy of what was served here before."""
        while True:
            error: BundleError | None = None
            for version in await self._on_loader(self._choices):
                try:
                    model: ServingModel = await self._on_loader(
                        self._load_now, version, self.manifests.get(version), None, []
                    )
                except BundleError as found:
                    error = error or found
                    if self._tells:
                        self._metrics.models.rejected.labels(found.reason).inc()
                        log.error("%s does not serve (%s): %s", version, found.reason, found)
                else:
                    return model
            if error is not None and error.reason != "missing":
                raise error
            if self._tells:
                model_name, registry = self._settings.registry.model, shown_address(self._settings.registry.address)
                log.warning("waiting for the first bundle of model %r in %s", model_name, registry)
            self._looks += 1
            await asyncio.sleep(_REGISTRY_EVERY_S)

    def _choices(self) -> list[str]:
        """Versions to try at the start, the best one first."""
        settings, stages = self._settings, self._stages
        copies = local_versions(settings)[::-1]
        choices = [version for version in (stages.serving, stages.previous) if version is not None]
        try:
            found = newest_version(settings.registry.address, settings.registry.model)
            if found is None and settings.starter and not (choices or copies):
                found = self._starter()
        except BundleError as error:
            if self._tells:
                log.error("%s", error)
            found = None
        if found is None and copies and self._tells:
            log.warning(
                "the registry %s gives no bundle; there are copies here: %s",
                shown_address(settings.registry.address),
                ", ".join(copies),
            )
        if found is not None and stages.serving is None:
            choices.append(found)
        # Nothing that was announced can be had: better the newest one than none, unless that one failed before.
        last = [found] if found is not None and found not in (stages.canary, stages.rolled_back) else []
        return list(dict.fromkeys([*choices, *copies, *last]))

    @property
    def _tells(self) -> bool:
        """Whether this look for a first version is one that says what is wrong: they come every second."""
        return self._looks % _WAITING_EVERY == 0

    def _starter(self) -> str | None:
        """Nothing was ever published here: a model that needs no data. Every worker makes the same one, or none may."""
        registry = self._settings.registry
        try:
            check_signing(registry)
        except SchemaError as error:
            if not self._told_unsigned:
                log.warning("no starter is made: %s", error)
            self._told_unsigned = True
            return None
        schema = self._settings.schema or FeatureSchema()
        version = publish_starter(schema, registry.address, registry.model)
        log.warning(
            "the registry %s has no bundle of model %r: the starter %s serves until a trained one is promoted",
            shown_address(registry.address),
            registry.model,
            version,
        )
        return version

    async def _on_loader(self, work: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._loader, partial(work, *given))
