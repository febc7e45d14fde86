"""Where an installation keeps what it has."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from liverank import web_settings
from liverank.local.errors import BrokerError
from liverank.local.ports import page_port
from liverank.settings import Settings, changed
from liverank.up.places import Places, with_page
from liverank.web_settings import WebSettings, why_no_page
from ranker.contracts.errors import LiverankError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says nothing about where things are."""
    for name in ("REGISTRY", "DATA", "TRAINER_DATA", "BROKERS", "METRICS_PORT", "TRAINER_METRICS_PORT"):
        monkeypatch.delenv(f"LIVERANK_{name}", raising=False)


def test_everything_lies_in_the_folder(tmp_path: Path) -> None:
    """Registry, rows and checkpoints, where nobody says otherwise; and pages on free ports."""
    settings = Places(tmp_path).settings("127.0.0.1:1234")
    assert settings.broker.addresses == "127.0.0.1:1234"
    for place in (Path(settings.registry.address), settings.worker.data, settings.trainer.data):
        assert place.is_relative_to(tmp_path / ".liverank")
    assert (settings.worker.metrics_port, settings.trainer.metrics_port) == (0, 0)


def test_what_file_and_environment_say_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own registry and ports are kept, and rules reach the worker."""
    (tmp_path / "liverank.toml").write_text(
        "[registry]\naddress = 's3://models'\n[worker]\nmetrics_port = 9300\n[worker.rules]\ncategory_cap = 3\n"
    )
    monkeypatch.setenv("LIVERANK_DATA", "/somewhere")
    settings = Places(tmp_path).settings(None)
    assert settings.registry.address == "s3://models"
    assert (settings.worker.data, settings.worker.metrics_port) == (Path("/somewhere"), 9300)
    assert settings.worker.rules.category_cap == 3


def test_a_relative_path_is_one_place_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's is beside the file, the environment's where the command was called: worker and trainer run elsewhere,
    each in a folder of its own. What is said counts, also where it is what would be taken elsewhere."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "liverank.toml").write_text(
        "[registry]\naddress = 'registry'\n[worker]\ndata = 'rows'\n[trainer]\ndata = '/t'\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = Places(Path("shop")).settings(None)
    assert Path(settings.registry.address) == tmp_path / "shop" / "registry"
    assert (settings.worker.data, settings.trainer.data) == (tmp_path / "shop" / "rows", Path("/t"))
    monkeypatch.setenv("LIVERANK_REGISTRY", "models")
    assert Path(Places(Path("shop")).settings(None).registry.address) == tmp_path / "models"
    monkeypatch.setenv("LIVERANK_REGISTRY", "ftp://u:p@h/models")
    assert Places(Path("shop")).settings(None).registry.address == "ftp://u:p@h/models"


def test_the_page_finds_the_metrics_that_it_shows() -> None:
    """What the system would choose is chosen once, so that a part which is started again is found again; what is asked
    for, or turned off, stays so."""
    chosen = with_page(changed(Settings(), metrics_port=0, trainer_metrics_port=0, web_port=0))
    ports = {chosen.worker.metrics_port, chosen.trainer.metrics_port, chosen.web.port}
    assert len(ports) == 3 and min(ports) > 0
    asked = with_page(changed(Settings(), metrics_port=-1, trainer_metrics_port=9300, web_port=0))
    assert (asked.worker.metrics_port, asked.trainer.metrics_port) == (-1, 9300)


def test_a_page_whose_port_is_taken() -> None:
    """The usual one gives way to a free one; one that a person asked for is an error that says what helps."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert page_port(taken, usual=taken) != taken
        with pytest.raises(BrokerError, match=f"port {taken} of 127.0.0.1 is taken; give another by LIVERANK_WEB_PORT"):
            page_port(taken, usual=8090)
    assert page_port(taken, usual=8090) == taken
    assert page_port(0, usual=8090) > 0


def test_where_there_is_no_page_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not asked for, turned off, or without the extra: the rest runs all the same."""
    assert why_no_page(WebSettings(), wanted=True) is None
    assert why_no_page(WebSettings(), wanted=False) == "--no-web"
    assert why_no_page(WebSettings(port=-1), wanted=True) == "port of [web] is -1"
    monkeypatch.setattr(web_settings, "find_spec", lambda module: None)
    missing = why_no_page(WebSettings(), wanted=True)
    assert missing is not None and missing.endswith("pip install 'liverank[web]'")


def test_one_at_a_time(tmp_path: Path) -> None:
    """The second one is told who runs it; after the first has ended the folder is free."""
    places = Places(tmp_path)
    with (
        places.held(),
        pytest.raises(LiverankError, match=r"is up already, by the process \d+"),
        Places(tmp_path).held(),
    ):
        pass
    with Places(tmp_path).held():
        pass


def test_the_broker_is_found_where_it_was(tmp_path: Path) -> None:
    """A free port is picked once and kept, while it is free; one that is asked for is used or refused."""
    places = Places(tmp_path)
    with places.held():
        first = places.port(0)
        assert places.port(0) == places.port(None) == first
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", first))
            taken.listen()
            assert places.port(0) != first
            with pytest.raises(BrokerError, match=rf"port {first} of 127\.0\.0\.1 is taken"):
                places.port(first)
