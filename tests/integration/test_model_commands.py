"""`liverank model list|promote|pin|rollback|canary` on Apache Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from liverank.cli import model as model_commands
from liverank.cli.main import app
from liverank.operate.models import list_models, read_control
from liverank.settings import Settings, changed
from ranker.contracts.errors import BundleError
from ranker.contracts.schema import Action, FeatureSchema
from ranker.registry import bundle
from tests.support.bundles import BAD, publish
from tests.support.installation import Installation, read_topic


@pytest.fixture
def installation(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """Topics, and an empty registry; the model's name is this test's own, since the topics are shared."""
    settings = changed(Settings(), brokers=kafka, registry=str(tmp_path / "registry"), model="commands", app="commands")
    made = Installation(settings, tmp_path)
    made.create_topics()
    for name, value in (
        ("BROKERS", kafka),
        ("REGISTRY", settings.registry.address),
        ("DATA", str(tmp_path / "data")),
        ("MODEL", "commands"),
    ):
        monkeypatch.setenv(f"LIVERANK_{name}", value)
    return made


def liverank(*arguments: str) -> str:
    """The output of a command that goes well."""
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_operators_move_versions(installation: Installation) -> None:
    """Promote twice, roll back without a name, try a canary and end it: the list says where each version stands."""
    first, second, third = (publish(installation, seed=seed) for seed in (1, 2, 3))
    liverank("model", "promote", first)
    liverank("model", "promote", second, "--reason", "better")
    assert json.loads(liverank("model", "rollback"))["version"] == first
    stages = {line.version: line.stage for line in list_models(installation.settings)}
    assert (stages[first], stages[second]) == ("pinned", None)
    again = CliRunner().invoke(app, ["model", "rollback"])
    assert "no older version is known" in str(again.exception), "asked twice it must not go forward again"
    liverank("model", "promote", second)
    liverank("model", "canary", third, "--share", "0.2")
    stages = {line.version: line.stage for line in list_models(installation.settings)}
    assert (stages[first], stages[second], stages[third]) == (None, "promoted", "canary")
    liverank("model", "rollback", third)
    known = read_control(installation.settings).stages
    assert (known.serving, known.canary, known.rolled_back) == (second, None, third)
    assert json.loads(liverank("model", "pin"))["version"] == second
    assert json.loads(liverank("model", "show"))["version"] == second, "what serves, and not the newest"
    assert json.loads(liverank("model", "show", "--version", third))["version"] == third
    assert json.loads(liverank("model", "show", first))["version"] == first
    table = liverank("model", "list")
    assert second[:8] in table
    last = [
        json.loads(message.value())
        for message in read_topic(installation.settings.broker.addresses, "model-updates", 1)
    ][-1]
    folder = Path(installation.settings.registry.address) / "commands" / second
    assert last["sha256"] == bundle.sha256(folder / "manifest.json")


def test_another_schema_is_announced_with_a_word_and_never_as_a_canary(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """What is another, and that workers take it when they start; no worker can have both, so there is no canary of it.
    What would give stored numbers another meaning is not announced at all.
    """
    cart, save = Action(name="cart"), Action(name="save")
    built_in = FeatureSchema().actions
    liverank("model", "promote", publish(installation))
    later = publish(installation, schema=FeatureSchema(actions=(*built_in, cart)))
    assert f"{later}: hashes, schema" in liverank("model", "verify", later)
    assert "the action 'cart' is new. A worker that starts anew takes it" in caplog.text
    canary = CliRunner().invoke(app, ["model", "canary", later])
    assert "has another schema than" in str(canary.exception)
    caplog.clear()
    liverank("model", "promote", later)
    assert "the action 'cart' is new" in caplog.text
    assert json.loads(liverank("model", "rollback"))["stage"] == "pinned", "back again is always possible"
    turned = publish(installation, schema=FeatureSchema(actions=(*built_in, save, cart)))
    ran = CliRunner().invoke(app, ["model", "promote", turned])
    assert f"after {later}: stored rows hold actions by number, and number 2 is 'cart' there" in str(ran.exception)


def test_what_is_not_there_is_not_announced(installation: Installation) -> None:
    """With what is."""
    version = publish(installation)
    ran = CliRunner().invoke(app, ["model", "promote", "nothing"])
    assert ran.exit_code != 0
    assert version in str(ran.exception)


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_bundle_does_not_verify(installation: Installation, spoil) -> None:
    """Each kind that a worker refuses is told in one line, for the reason that the worker would give."""
    liverank("model", "promote", publish(installation))
    version, reason = spoil(installation)
    ran = CliRunner().invoke(app, ["model", "verify", version])
    error = ran.exception
    assert isinstance(error, BundleError), ran.output
    assert error.reason == reason
    assert len(str(error).splitlines()) == 1
    assert version in str(error)


def test_what_verifies_is_what_lies_in_the_registry(installation: Installation) -> None:
    """Not a copy that was fine when it was fetched."""
    version = publish(installation)
    assert f"{version}: hashes, schema, golden outputs and numbers are fine" in liverank("model", "verify")
    tables = Path(installation.settings.registry.address) / "commands" / version / "tables.safetensors"
    tables.write_bytes(tables.read_bytes()[:-1])
    assert "tables.safetensors was changed" in str(CliRunner().invoke(app, ["model", "verify"]).exception)


def test_verifying_needs_no_broker(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it did not compare."""
    version = publish(installation)
    monkeypatch.setenv("LIVERANK_BROKERS", "127.0.0.1:1")
    monkeypatch.setattr(model_commands, "_ASKED_S", 0.2)
    said = " ".join(liverank("model", "verify").split())
    assert "not compared with what was announced" in said
    assert f"{version}: hashes" in said
