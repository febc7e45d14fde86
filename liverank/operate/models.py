"""What operators ask of the models: which versions there are, and which one is to serve.

A command writes one record to `model-updates`; every worker, and the trainer, goes along with it. `rollback` pins what
it goes back to, so that nothing newer replaces it before somebody promotes a version.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from msgspec import Struct

from liverank.operate.reading import ANSWER_S, read_to_end
from liverank.settings import Settings
from ranker.contracts.bundle_files import MANIFEST
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import decoded
from ranker.contracts.errors import BundleError, InvalidRecord, LiverankError, OtherInputs
from ranker.contracts.path_names import path_name
from ranker.contracts.records import ModelUpdate
from ranker.contracts.topics import MODEL_UPDATES
from ranker.items.catalog import Catalog
from ranker.registry.bundle import (
    Manifest,
    check_remote,
    fetch_bundle,
    newest_version,
    read_manifest,
    read_remote_manifest,
    registry_versions,
    signer,
)
from ranker.registry.encoder import DESCRIPTION, EncoderError, load_encoder
from ranker.registry.settings import shown_address
from ranker.registry.signatures import put_signature
from ranker.rollout.stages import CANARY, PINNED, PROMOTED, ROLLED_BACK, Stages, follow, key_of, stage_of
from streams.access.rights import shown_user
from streams.kafka import connection
from streams.models.loader import check_inputs, load_version, refuse_renumbered

log = logging.getLogger(__name__)

#: So long the broker is asked by what can do without it.
_ASKED_S = 3.0

_update = msgspec.json.Decoder(ModelUpdate)


class Known(Struct, frozen=True):
    """What the control topic says: the stages, and each announced version's manifest hash and newest reason."""

    stages: Stages
    manifests: dict[str, str]
    reasons: dict[str, str]


class Line(Struct, frozen=True, kw_only=True):
    """A version, for a list."""

    version: str
    stage: str | None
    created: int | None = None
    learned_until: int | None = None
    parent: str | None = None
    metrics: dict[str, float] = {}
    reason: str | None = None


def list_models(settings: Settings) -> list[Line]:
    """Every version of the registry, and those that the control topic names, oldest first."""
    known = read_control(settings)
    names = {*registry_versions(settings.registry.address, settings.registry.model)}
    named = {known.stages.serving, known.stages.previous, known.stages.canary}
    lines = []
    for version in sorted(names | {name for name in named if name}):
        manifest = _manifest(settings, version)[0] if version in names else None
        lines.append(
            Line(
                version=version,
                stage=stage_of(version, known.stages),
                created=manifest.created if manifest else None,
                learned_until=manifest.learned_until if manifest else None,
                parent=manifest.parent if manifest else None,
                metrics=manifest.metrics if manifest else {},
                reason=known.reasons.get(version) if manifest else "not in the registry",
            )
        )
    return lines


class Chosen(NamedTuple):
    """A version to read, and why it is the newest where it is not known what serves."""

    version: str
    why: str | None = None


def version_in_use(settings: Settings, version: str | None = None) -> Chosen:
    """A version of the registry: the one that is named, else the one that serves, else the newest.

    Raises:
        LiverankError: the registry has none.
    """
    if version is not None:
        return Chosen(path_name(version, "version"))
    newest = newest_of(settings)
    try:
        serving = read_control(settings, _ASKED_S).stages.serving
    except LiverankError as error:
        return Chosen(newest, f"what serves is not known: {error}")
    if serving is None:
        return Chosen(newest)
    if serving not in registry_versions(settings.registry.address, settings.registry.model):
        return Chosen(newest, f"{serving} serves, which {shown_address(settings.registry.address)} does not have")
    return Chosen(serving)


def newest_of(settings: Settings) -> str:
    """The newest version of the registry.

    Raises:
        LiverankError: it has none.
    """
    version = newest_version(settings.registry.address, settings.registry.model)
    if version is None:
        where = shown_address(settings.registry.address)
        raise LiverankError(
            f"the registry {where} has no model {settings.registry.model!r}; `liverank train` makes a first one"
        )
    return version


def verify(settings: Settings, version: str | None, known: Known | None) -> str:
    """Check a bundle as a worker does before it serves; the version.

    It is fetched anew, into a folder that does not stay: a copy that lies here says nothing about the registry.

    Args:
        settings: where the registry is.
        version: the newest where None.
        known: what was announced: its hash of the manifest must be the bundle's, and it must be able to follow what
            serves. None where that is not known.

    Raises:
        BundleError: what must not serve, and why.
        LiverankError: the registry has no bundle at all.
    """
    held = registry_versions(settings.registry.address, settings.registry.model)
    version = version or newest_of(settings)
    serving = known.stages.serving if known else None
    with TemporaryDirectory(prefix="liverank-verify-") as temporary:
        announced = known.manifests.get(version) if known else None
        folder = fetch_bundle(settings.registry, version, Path(temporary), announced)
        if serving in held and serving != version:
            _compared(read_manifest(folder), _manifest(settings, serving)[0])
        load_version(settings.worker, folder, Catalog(read_manifest(folder).schema.item_numeric), None, [])
    return version


def sign(settings: Settings, version: str | None) -> tuple[str, str]:
    """Sign a bundle of the registry that is whole, and its encoder where the registry has it; version, and who signed.

    Args:
        settings: where the registry is. Whose signatures count does not matter here.
        version: the newest where None.

    Raises:
        LiverankError: the environment has no key, or the bundle is not what its manifest says.
    """
    registry = msgspec.structs.replace(settings.registry, require_signatures=False)
    with TemporaryDirectory(prefix="liverank-sign-") as temporary:
        version = version or newest_version(registry.address, registry.model)
        if version is None:
            raise LiverankError(f"the registry {shown_address(registry.address)} has no model {registry.model!r}")
        folder = fetch_bundle(registry, version, Path(temporary))
        put_signature(registry, f"{registry.model}/{version}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        with suppress(EncoderError):  # workers tell of an encoder that is missing
            encoder = load_encoder(registry, read_manifest(folder).encoder, Path(temporary) / "encoders")
            described = (Path(temporary) / "encoders" / encoder.name / DESCRIPTION).read_bytes()
            put_signature(registry, f"encoders/{encoder.name}/{DESCRIPTION}", described)
    return version, signer(settings.registry, version)


def promote(settings: Settings, version: str, reason: str | None) -> ModelUpdate:
    """Have every worker serve a version; what was pinned is so no more."""
    return _announce(settings, read_control(settings), version, PROMOTED, reason)


def pin(settings: Settings, version: str | None, reason: str | None) -> ModelUpdate:
    """Have every worker serve a version, by default the one that serves, and nothing else until one is promoted.

    Raises:
        LiverankError: no version is given and none was announced.
    """
    known = read_control(settings)
    version = version or known.stages.serving
    if version is None:
        raise LiverankError("no version was announced yet; name the one to pin, `liverank model list` shows them")
    return _announce(settings, known, version, PINNED, reason)


def canary(settings: Settings, version: str, share: float, reason: str | None) -> ModelUpdate:
    """Have a share of the users served by a version.

    Raises:
        LiverankError: the share is none.
        BundleError: the version has another schema than what serves, and no worker can have both.
    """
    if not 0 < share < 1:
        raise LiverankError(f"the share of users is {share}; it must lie between 0 and 1")
    known = read_control(settings)
    serving = known.stages.serving
    if serving is not None and serving != version:
        check_inputs(_manifest(settings, version)[0], _manifest(settings, serving)[0])
    return _announce(settings, known, version, CANARY, reason, share)


def rollback(settings: Settings, version: str | None, reason: str | None) -> ModelUpdate:
    """Go back to a version, by default the one that served before, and pin it. A canary's version ends the canary.

    Without a name it goes to older versions alone: asked twice, it does not return to what was rolled back.

    Raises:
        LiverankError: no version is given and none is known to have served before.
    """
    known = read_control(settings)
    stages = known.stages
    if version is not None and version == stages.canary:
        return _announce(settings, known, version, ROLLED_BACK, reason)
    if version is None and stages.serving is not None and stages.previous is not None:
        version = stages.previous if stages.previous < stages.serving else None
    if version is None and stages.serving is not None:
        version = _manifest(settings, stages.serving)[0].parent
    if version is None:
        raise LiverankError("no older version is known to have served; name one, `liverank model list` shows them")
    return _announce(settings, known, version, PINNED, reason)


def read_control(settings: Settings, answer_s: float = ANSWER_S) -> Known:
    """Everything that the control topic says of this model.

    Args:
        settings: where the broker is.
        answer_s: how long to wait for it.

    Raises:
        LiverankError: there is no such topic, or the broker does not answer.
    """
    known = Known(Stages(), {}, {})
    stages = known.stages
    for message in read_to_end(settings.broker, MODEL_UPDATES, [0], answer_s=answer_s):
        try:
            update = decoded(_update, message.value() or b"")
        except InvalidRecord:
            continue  # workers tell of it
        if update.model == settings.registry.model:
            stages = follow(stages, update)
            known.manifests[update.version] = update.sha256
            if update.reason:
                known.reasons[update.version] = update.reason
    return msgspec.structs.replace(known, stages=stages)


def _announce(
    settings: Settings, known: Known, version: str, stage: str, reason: str | None, share: float | None = None
) -> ModelUpdate:
    path_name(version, "version")
    digest = known.manifests.get(version) or check_remote(settings.registry, version)
    _follows(settings, known, version)
    update = ModelUpdate(
        model=settings.registry.model,
        version=version,
        sha256=digest,
        stage=stage,
        share=share,
        reason=reason,
        ts=now_ms(),
        previous=known.stages.serving,
    )
    failed: list[Any] = []
    topic = settings.topics.called(MODEL_UPDATES)
    producer = Producer(connection.librdkafka(settings.broker) | {"acks": "all", "partitioner": connection.PARTITIONER})
    try:
        producer.produce(
            topic, msgspec.json.encode(update), key_of(update),
            on_delivery=lambda error, message: failed.append(error) if error else None,
        )  # fmt: skip
    except KafkaException as error:
        raise LiverankError(f"{topic} does not take the record: {error.args[0].str()}") from error
    if producer.flush(ANSWER_S) or failed:
        if failed and failed[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise LiverankError(
                f"{shown_user(settings.broker)} may not WRITE {MODEL_UPDATES}; `liverank topics acls` prints what an "
                "operator needs"
            )
        why = failed[0].str() if failed else "no answer"
        raise LiverankError(f"{topic} did not take the record: {why}; nothing has changed")
    return update


def _follows(settings: Settings, known: Known, version: str) -> None:
    """See that stored rows mean to a version what they meant to those announced before; tell of another schema.

    Raises:
        BundleError: they would mean something else.
    """
    registry = settings.registry
    try:
        held = registry_versions(registry.address, registry.model)
    except BundleError:
        held = []
    if version not in held:
        return  # a registry that is down does not keep anybody from going back: workers have copies
    manifest = _manifest(settings, version)[0]
    unannounced = [one for one in held if one != version][-1:] if known.stages.serving is None else []
    for before in {*known.manifests, *unannounced} & set(held) - {version}:
        refuse_renumbered(manifest, _manifest(settings, before)[0])
    if (serving := known.stages.serving or next(iter(unannounced), None)) in held and serving is not None:
        _compared(manifest, _manifest(settings, serving)[0])


def _compared(manifest: Manifest, serving: Manifest) -> None:
    """Tell where the step from what serves to a version asks for more than its announcement.

    Raises:
        BundleError: it must not be taken.
    """
    try:
        check_inputs(manifest, serving)
    except OtherInputs as told:
        log.warning("%s", told)


def _manifest(settings: Settings, version: str) -> tuple[Manifest, str]:
    """A bundle's manifest in the registry, and its hash.

    Raises:
        BundleError: the registry has no such bundle; the newest ones that it has are named.
    """
    return read_remote_manifest(settings.registry, version)
