"""`liverank model`: the bundles of the registry, and which one is to serve."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from liverank.cli.options import Config, Json, Registry, Version, settings_from, version_from
from liverank.terminal import errors, report
from ranker.contracts.errors import LiverankError

# Kafka and ONNX Runtime are imported inside the commands that need them.
# ruff: noqa: PLC0415

#: So long the broker is asked by a command that can do without it.
_ASKED_S = 3.0

model_app = typer.Typer(help="The bundles of the registry, and which one serves.", no_args_is_help=True)

NamedVersion = Annotated[str, typer.Argument(help="The version; `liverank model list` shows them.")]
OptionalVersion = Annotated[str | None, typer.Argument(help="A version.", show_default=False)]
#: Where it stood before there was `--version`.
EarlierVersion = Annotated[str | None, typer.Argument(hidden=True, metavar="VERSION")]
Reason = Annotated[str | None, typer.Option("--reason", help="For whoever reads it later.", show_default=False)]


@model_app.command("list", epilog="Example:  liverank model list --registry registry")
def model_list(registry: Registry = None, config: Config = None, json: Json = None) -> None:
    """Every version, its stage, and what its trainer measured."""
    from liverank.operate.models import list_models

    lines = list_models(settings_from(config, registry=registry))
    table = Table("version", "stage", "made", "learned until", "metrics", "why")
    for line in lines:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in line.metrics.items())
        made, learned = _shown_time(line.created), _shown_time(line.learned_until)
        table.add_row(line.version, line.stage or "", made, learned, numbers, line.reason or "")
    report({"versions": msgspec.to_builtins(lines)}, json, table)


@model_app.command("promote", epilog="Example:  liverank model promote 20261123T084316639-5f3641")
def model_promote(
    version: NamedVersion, reason: Reason = None, registry: Registry = None, config: Config = None, json: Json = None
) -> None:
    """Have every worker serve this version. Ends a pin."""
    from liverank.operate.models import promote

    report(msgspec.to_builtins(promote(settings_from(config, registry=registry), version, reason)), json)


@model_app.command("canary", epilog="Example:  liverank model canary 20261123T084316639-5f3641 --share 0.1")
def model_canary(
    version: NamedVersion,
    share: Annotated[float, typer.Option(help="Share of the users.")] = 0.1,
    reason: Reason = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Serve this version to a share of the users; their clicks decide what becomes of it."""
    from liverank.operate.models import canary

    report(msgspec.to_builtins(canary(settings_from(config, registry=registry), version, share, reason)), json)


@model_app.command("rollback", epilog="Example:  liverank model rollback --reason 'nobody clicks'")
def model_rollback(
    version: OptionalVersion = None,
    reason: Reason = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Go back to the version that served before, or to this one, and pin it. A canary's version ends the canary."""
    from liverank.operate.models import rollback

    report(msgspec.to_builtins(rollback(settings_from(config, registry=registry), version, reason)), json)


@model_app.command("pin", epilog="Example:  liverank model pin")
def model_pin(
    version: OptionalVersion = None,
    reason: Reason = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Serve this version, or go on with the one that serves, and nothing else until one is promoted."""
    from liverank.operate.models import pin

    report(msgspec.to_builtins(pin(settings_from(config, registry=registry), version, reason)), json)


@model_app.command("show", epilog="Example:  liverank model show --registry registry")
def model_show(
    earlier: EarlierVersion = None,
    version: Version = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """What a bundle is: who signed it, and its manifest."""
    from ranker.registry.bundle import read_remote_manifest, signer

    settings = settings_from(config, registry=registry)
    shown = version_from(settings, version or earlier)
    manifest = read_remote_manifest(settings.registry, shown)[0]
    report({"signature": signer(settings.registry, shown), **msgspec.to_builtins(manifest)}, json)


@model_app.command("verify", epilog="Example:  liverank model verify --registry registry")
def model_verify(
    version: Annotated[str | None, typer.Argument(help="A version; else the newest.")] = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Check a bundle as a worker does: signature, hashes, schema, golden outputs, numbers; else exit 1."""
    from liverank.operate.models import read_control, verify
    from ranker.registry.bundle import signer

    settings = settings_from(config, registry=registry)
    try:
        known = read_control(settings, _ASKED_S)
    except LiverankError as error:
        known = None
        errors.print(f"not compared with what was announced and what serves: {error}", soft_wrap=True)
    sound = verify(settings, version, known)
    signature = signer(settings.registry, sound)
    lines = f"{sound}: hashes, schema, golden outputs and numbers are fine\n{sound}: {signature}"
    report({"version": sound, "compared": known is not None, "signature": signature}, json, lines)


@model_app.command("sign", epilog="Example:  LIVERANK_SIGNING_KEY=... liverank model sign --registry registry")
def model_sign(
    version: Annotated[str | None, typer.Argument(help="A version; else the newest.")] = None,
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Sign a bundle that was published without a key, and its encoder, once its hashes are checked."""
    from liverank.operate.models import sign

    signed, by = sign(settings_from(config, registry=registry), version)
    report({"version": signed, "signature": by}, json, f"{signed}: {by}")


@model_app.command("encoder", epilog="Example:  liverank model encoder minilm --registry registry")
def model_encoder(
    source: Annotated[str, typer.Argument(help="minilm, or a transformers model or path.")] = "minilm",
    registry: Registry = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Put a sentence encoder into the registry: with it items' texts count from the starter model on."""
    from online_learning.first_model.encoders import publish_encoder
    from ranker.registry.signatures import check_signing

    settings = settings_from(config, registry=registry).registry
    check_signing(settings)
    report({"encoder": publish_encoder(source, settings.address)}, json)


def _shown_time(ms: int | None) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else ""
