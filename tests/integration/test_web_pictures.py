"""The pictures of the docs: the starter model, a trainer, and a browser in which somebody clicks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from liverank.local.ports import free_ports
from liverank.settings import Settings, changed, environment_of
from tests.support.browser import chromium
from tests.support.films import SCHEMA, WAIT_MS, opened, passers_by, ranked_after, send_items
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import Installation

pytestmark = pytest.mark.skipif(
    "LIVERANK_SCREENSHOTS" not in os.environ, reason="LIVERANK_SCREENSHOTS names no folder for pictures"
)


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Worker and trainer, from nothing but a schema."""
    folder = tmp_path_factory.mktemp("pictures")
    worker_port, trainer_port = free_ports(2)
    settings = changed(
        Settings(), brokers=kafka, registry=str(folder / "registry"), app="web", metrics_port=worker_port,
        trainer_metrics_port=trainer_port, trainer_data=folder / "trainer", web_refresh_ms=500, session_timeout_s=45.0,
    )  # fmt: skip
    config = folder / "liverank.toml"
    actions = ", ".join(
        f'{{name = "{one.name}", positive = {str(one.positive).lower()}}}' for one in SCHEMA.actions if not one.retired
    )
    config.write_text(f"[schema]\nactions = [{actions}]\n")
    made = Installation(settings, folder)
    made.create_topics()
    send_items(made)
    made.worker("worker", ("--config", str(config))).start().ready(300)
    with (folder / "trainer.log").open("wb") as log:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "liverank", "trainer", "--config", str(config)], stdout=log, stderr=log,
            env=os.environ | environment_of(settings),
        )  # fmt: skip
    try:
        yield made
    finally:
        trainer.terminate()
        trainer.wait(60)
        made.close()


@pytest.fixture(scope="module")
def web(installation: Installation) -> Iterator[GatewayProcess]:
    """The page, where an operator has a token."""
    token = {"LIVERANK_WEB_OPERATOR_TOKEN": "a-token-for-pictures"}
    process = GatewayProcess(installation.settings, installation.folder / "page", token, command="web")
    try:
        yield process.start().ready()
    finally:
        process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all pictures."""
    expect.set_options(timeout=WAIT_MS)
    with chromium() as found:
        yield found


@pytest.mark.parametrize(
    ("name", "side", "scheme", "width", "height"),
    [
        ("web-list", "shopper", "light", 1000, 700),
        ("web-list-dark", "shopper", "dark", 1000, 700),
        ("web-phone", "shopper", "light", 390, 740),
        ("web-system", "operator", "light", 1100, 900),
    ],
)
def test_screenshots(
    browser: Browser, web: GatewayProcess, installation: Installation, name: str, side: str, scheme: Any, width: int,
    height: int,
) -> None:  # fmt: skip
    """The pictures of the docs: both sides, light and dark, and a phone."""
    path = Path(os.environ["LIVERANK_SCREENSHOTS"]) / f"{name}.png"
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        opened(page, web)
        for _ in range(2):
            ranked_after(page, page.locator("#list li", has_text="Space").locator(".item-title").last.click)
        if name == "web-list":
            page.locator("#list .why").first.click()
            expect(page.locator("#list .reasons li").first).to_be_visible()
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        if side == "operator":
            page.locator("#to-operator").click()
            while (
                readings(page) < 40
                or page.locator("#trainer:empty").count()
                or page.locator("#trainer dd", has_text=re.compile(r"^0 examples")).count()
            ):
                passers_by(installation, 4)
        page.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
        page.screenshot(path=path)
        assert path.stat().st_size < 150_000


def test_first_content(browser: Browser, web: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """How long nothing is seen: told, and not judged, since machines differ."""
    took = []
    for _ in range(9):
        with browser.new_context() as context:  # nothing is cached
            opened(page := context.new_page(), web)
            took.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    with capsys.disabled():
        print(f"\nfirst content after {median(took):.0f} ms, median of {len(took)} visits; at most {max(took):.0f} ms")


def readings(page: Page) -> int:
    """How many a chart shows."""
    drawn = page.locator("#events-chart polyline")
    return len((drawn.first.get_attribute("points") or "").split()) if drawn.count() else 0
