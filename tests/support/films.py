"""A made-up film catalogue on the page, and what tests do there."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from ranker.contracts.schema import Action, FeatureSchema
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import Installation

#: For whatever a page has to show: the machine may be busy.
WAIT_MS = 60_000
SCHEMA = FeatureSchema(
    actions=(
        Action(name="view"), Action(name="click", positive=True), Action(name="like", positive=True),
        Action(name="dislike"), Action(name="gone", retired=True),
    )
)  # fmt: skip
KINDS = ("Comedy", "Drama", "Mystery", "Space")
FIRST = ("The", "A", "My", "Last", "Silent")
WORDS = ("Lighthouse", "Orchard", "Comet", "Harbour", "Clockmaker", "Meadow", "Signal", "Winter")


def title(number: int) -> str:
    """Of a made-up film."""
    return f"{FIRST[number % len(FIRST)]} {WORDS[number % len(WORDS)]}"


def catalogue() -> list[dict[str, Any]]:
    """Items that the tiny model knows."""
    return [
        {
            "item_id": f"item-{number}", "title": title(number), "category": KINDS[number % len(KINDS)],
            "numeric": {"price": 4.5 + number},
        }
        for number in range(24)
    ]  # fmt: skip


def send_items(installation: Installation) -> None:
    """Describe the catalogue."""
    for item in catalogue():
        installation.send("items", item["item_id"], item)


def opened(page: Page, web: GatewayProcess, side: str = "shopper") -> Page:
    """The page at one of its sides, with a ranked list or with figures."""
    page.goto(web.address if side == "shopper" else f"{web.address}/#{side}")
    if side == "shopper":
        expect(page.locator("#list-foot")).to_contain_text("Ranking")
    else:
        expect(page.locator("#as-of")).to_contain_text("worker")
        expect(page.locator("#versions table")).to_be_visible()
    return page


def order(page: Page) -> list[str]:
    """The items as they stand."""
    return page.eval_on_selector_all("#list li", "lines => lines.map(line => line.dataset.item)")


def revision(page: Page) -> int:
    """Of the ranking that is shown."""
    return int(page.locator("#list-foot").inner_text().split()[1].rstrip(","))


def ranked_after(page: Page, act: Callable[[], None]) -> None:
    """Do something, and wait for the ranking that comes of it."""
    before = revision(page)
    act()
    page.wait_for_function(
        "before => Number(document.getElementById('list-foot').textContent.split(/[ ,]/)[1]) > before", arg=before
    )


def passers_by(installation: Installation, count: int) -> None:
    """Others who are shown a list and click on a film of the kind that they like, as far down as it stands."""
    for _ in range(count):
        number = random.randrange(40)
        user, request_id = f"someone-{number}", uuid.uuid4().hex
        films = random.sample(catalogue(), 12)
        listed = [{"item_id": film["item_id"]} for film in films]
        installation.send("candidates", user, {"user_id": user, "request_id": request_id, "items": listed})
        liked = next((film for film in films if film["category"] == KINDS[number % len(KINDS)]), films[0])
        event = {"user_id": user, "item_id": liked["item_id"], "request_id": request_id, "event_id": uuid.uuid4().hex}
        installation.send("clicks", user, event)
