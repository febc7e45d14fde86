"""The page in a real Chromium, beside a real worker on a real broker: what a person sees, does and is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from liverank.local.ports import free_ports
from liverank.settings import Settings, changed
from ranker.contracts.clock import now_ms
from ranker.contracts.ids import hash_id
from ranker.contracts.records import ModelDelta, Ranking
from ranker.items.tables import pack_row
from tests.support.browser import chromium, grave_findings
from tests.support.bundles import announce, flip, publish
from tests.support.films import KINDS, SCHEMA, WAIT_MS, catalogue, opened, order, ranked_after, send_items
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import REPOSITORY, Installation
from tests.support.tiny import tiny_bundle

TOKEN, OPERATOR = "a-token-of-the-tests", "the-operators-token"


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics, items, a model with more actions than two, and a worker whose metrics can be read."""
    folder = tmp_path_factory.mktemp("web")
    tiny_bundle(folder / "registry", SCHEMA)
    settings = changed(
        Settings(), brokers=kafka, registry=str(folder / "registry"), app="web", metrics_port=free_ports(1)[0],
        trainer_metrics_port=-1, web_refresh_ms=500, session_timeout_s=45.0,
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    send_items(made)
    made.worker("worker").start().ready(120)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pages(installation: Installation) -> Iterator[Any]:
    """Starts pages of an installation, and ends them: `pages("name", {"LIVERANK_WEB_TOKENS": ...}, web_length=3)`."""
    made: list[GatewayProcess] = []

    def another(name: str, environment: dict[str, str] | None = None, **changes: object) -> GatewayProcess:
        settings = changed(installation.settings, **changes)
        folder = installation.folder / name
        made.append(GatewayProcess(settings, folder, environment or {}, command="web"))
        return made[-1].start()

    yield another
    for process in made:
        process.kill()


@pytest.fixture(scope="module")
def web(pages: Any) -> GatewayProcess:
    """The page, where an operator has a token."""
    process: GatewayProcess = pages("page", {"LIVERANK_WEB_OPERATOR_TOKEN": OPERATOR})
    return process.ready()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests."""
    expect.set_options(timeout=WAIT_MS)
    with chromium() as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's own."""
    made = browser.new_context()
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page whose scripts may not fail, and which asks nobody but its own server."""
    made, wrong, asked = context.new_page(), list[str](), set[str]()
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    made.on("request", lambda request: asked.add(request.url.split("/")[2].partition(":")[0]))
    yield made
    assert not wrong
    assert asked <= {"127.0.0.1", ""}


def test_a_click_re_orders_the_list(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """The list stands as the newest ranking says, each line says how far it came, and how likely a click is; there are
    buttons for the actions of the schema, and no others."""
    opened(page, web)
    line = page.locator("#list li").first
    assert line.locator(".actions button").all_inner_texts() == ["view", "click", "like", "dislike"]
    assert line.locator(".about").inner_text().split(" · ")[0] in KINDS
    for _ in range(8):
        before = order(page)
        ranked_after(page, page.locator("#list li .item-title").last.click)
        after = order(page)
        if after != before:
            break
    assert after != before and sorted(after) == sorted(before)
    told = page.eval_on_selector_all("#list li", "lines => lines.map(line => line.querySelector('.moved').innerText)")
    moved = [before.index(item) - at for at, item in enumerate(after)]
    assert [text.split("\n")[0] for text in told] == [
        "" if up == 0 else f"+{up}" if up > 0 else f"\N{MINUS SIGN}{-up}" for up in moved
    ]
    assert page.locator("#said").inner_text().startswith(f"{sum(up != 0 for up in moved)} of 12 have moved.")
    widths = page.eval_on_selector_all(".bar span", "bars => bars.map(bar => parseFloat(bar.style.width))")
    assert max(widths) == 100 and min(widths) > 0
    person = page.locator("#person").inner_text()
    newest = max(
        (one for one in installation.rankings() if one.user_id == person), key=lambda one: (one.epoch, one.revision)
    )
    assert [one.item_id for one in newest.items] == after
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint').length") == 1


def test_persons_and_lists(page: Page, web: GatewayProcess) -> None:
    """Another list has other items for the same person, who is there after a reload too; a new person is another one;
    who is forgotten has the same list, as new."""
    opened(page, web)
    person, before = page.locator("#person").inner_text(), order(page)
    page.locator("#another-list").click()
    page.wait_for_function(
        "before => [...document.querySelectorAll('#list li')].map(one => one.dataset.item).sort().join() !== before",
        arg=",".join(sorted(before)),
    )
    expect(page.locator("#list-foot")).to_contain_text("Ranking")
    assert page.locator("#person").inner_text() == person
    ranked_after(page, page.locator("#list li .item-title").nth(5).click)
    listed = sorted(order(page))
    page.locator("#reset").click()
    expect(page.locator("#said")).to_contain_text("You are forgotten")
    expect(page.locator("#list-foot")).to_contain_text("Ranking")
    assert sorted(order(page)) == listed and page.locator("#list .touched").count() == 0
    page.reload()
    expect(page.locator("#list-foot")).to_contain_text("Ranking")
    assert (page.locator("#person").inner_text(), sorted(order(page))) == (person, listed)
    page.locator("#new-person").click()
    expect(page.locator("#person")).not_to_have_text(person)
    expect(page.locator("#list-foot")).to_contain_text("Ranking")


def test_the_keyboard_is_enough(page: Page, web: GatewayProcess) -> None:
    """Every link and button is reached by Tab and can be seen to be; what is chosen stays chosen as the list moves."""
    opened(page, web)
    reached: list[str] = []
    chosen = False
    for _ in range(12 * 6 + 20):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "() => { const at = document.activeElement; const style = getComputedStyle(at);"
            " return [at.id || at.className || at.dataset.action || at.tagName, style.outlineStyle] }"
        )
        if at[0] == "BODY":
            break
        assert at[1] != "none", f"{at[0]} has the focus, and nothing shows it"
        reached.append(at[0])
        if at[0] == "item-title" and not chosen:
            chosen = True
            item = page.evaluate("document.activeElement.closest('li').dataset.item")
            ranked_after(page, lambda: page.keyboard.press("Enter"))
            assert page.evaluate("document.activeElement.closest('li')?.dataset.item") == item
    assert {"skip", "to-shopper", "to-operator", "another-list", "new-person", "reset", "item-title"} <= set(reached)
    page.locator("#to-operator").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#operator-title")).to_be_visible()


def test_an_item_says_why_it_stands_there(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """Once somebody asks, by the keyboard: in the words of the ranking, with titles, anew with each ranking; until then
    no ranking of the list has reasons, nor has one of the next list."""
    opened(page, web)
    ranked_after(page, page.locator("#list li .item-title").last.click)
    person = page.locator("#person").inner_text()

    def newest() -> Ranking:
        own = (one for one in installation.rankings() if one.user_id == person)
        return max(own, key=lambda one: (one.epoch, one.revision))

    assert not any(line.reasons for line in newest().items)
    item = page.locator("#list li.touched").get_attribute("data-item")
    clicked = page.locator(f'#list li[data-item="{item}"]')
    why, reasons = clicked.locator(".why"), clicked.locator(".reasons li")
    expect(clicked.locator(".reasons")).to_be_hidden()
    why.focus()
    ranked_after(page, lambda: page.keyboard.press("Enter"))
    expect(why).to_have_attribute("aria-expanded", "true")
    expect(why).to_be_focused()
    name = clicked.locator(".item-title").inner_text()
    assert why.get_attribute("aria-label") == f"Why {name} stands here"
    titles = {film["item_id"]: film["title"] for film in catalogue()}

    def shown(ranking: Ranking) -> list[str]:
        (line,) = [one for one in ranking.items if one.item_id == item]
        assert 0 < len(line.reasons) <= 3
        return [re.sub("“(.*?)”", lambda found: f"“{titles[found[1]]}”", one.words) for one in line.reasons]

    expect(reasons).to_have_text(shown(newest()))
    expect(page.locator("#said")).to_contain_text(f"Why {name} stands here: {shown(newest())[0]}")
    sentence, line = (one.bounding_box() for one in (reasons.first, clicked))
    assert sentence is not None and line is not None and sentence["width"] > line["width"] / 3  # it has room to be read
    assert grave_findings(page) == []
    for other in page.locator("#list li:not(.touched) .item-title").all()[:2]:
        ranked_after(page, other.click)
    expect(reasons).to_have_text(shown(newest()))
    why.press("Enter")
    expect(page.locator(".reasons:visible")).to_have_count(0)
    page.locator("#another-list").click()
    expect(page.locator("#list .touched")).to_have_count(0)
    expect(page.locator("#list-foot")).to_contain_text("Ranking")
    ranked_after(page, page.locator("#list li .item-title").first.click)
    assert not any(line.reasons for line in newest().items)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_who_asks_for_less_motion_sees_none(browser: Browser, web: GatewayProcess, motion: Any) -> None:
    """Lines glide for everybody else."""
    with browser.new_context(reduced_motion=motion) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(
            "window.glided = 0; const animate = Element.prototype.animate;"
            "Element.prototype.animate = function (...all) { window.glided++; return animate.apply(this, all) }"
        )
        opened(page, web)
        for _ in range(8):
            before = order(page)
            ranked_after(page, page.locator("#list li .item-title").last.click)
            if order(page) != before:
                break
        assert order(page) != before
        assert (page.evaluate("window.glided") == 0) == (motion == "reduce")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("side", ["shopper", "operator"])
def test_nobody_is_kept_out(browser: Browser, web: GatewayProcess, side: str, scheme: Any) -> None:
    """axe has no serious finding; on a phone nothing stands beside the page."""
    with browser.new_context(color_scheme=scheme, viewport={"width": 375, "height": 740}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        opened(page, web, side)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        if side == "shopper":
            ranked_after(page, page.locator("#list li .item-title").last.click)
        assert grave_findings(page) == []
        page.set_viewport_size({"width": 1200, "height": 900})
        assert grave_findings(page) == []


def test_a_swap_shows(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """On the operator's side at once, as do rows that it has learned since; on a list with its next ranking."""
    opened(page, web)
    version = publish(installation, seed=1, schema=SCHEMA, change=flip)
    announce(installation, version)
    page.locator("#to-operator").click()
    expect(page.locator("#model")).to_contain_text(version)
    expect(page.locator("#versions")).to_contain_text("promoted")
    send_delta(installation, version)
    expect(page.locator("#model")).to_contain_text("1 applied; 1 item rows")
    expect(page.locator("#model dd").nth(2)).to_have_text(re.compile(r"\d s ago"))
    page.locator("#to-shopper").click()
    ranked_after(page, page.locator("#list li .item-title").last.click)
    expect(page.locator("#list-foot")).to_contain_text(version)


def send_delta(installation: Installation, version: str) -> None:
    """A row that a version has learned just now."""
    row = pack_row(np.zeros(16), np.zeros(3), np.zeros(4, np.int64), np.zeros(4))
    model, now = installation.settings.registry.model, now_ms()
    rows = {str(hash_id("item-3")): row}
    delta = ModelDelta(model=model, base=version, sequence=now, learned_until=now, rows=rows)
    installation.send("model-deltas", model, msgspec.json.encode(delta))


def test_a_canary_is_compared_and_ended(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """Its share, by how much it is above what serves, and the bounds, which nobody's clicks have narrowed yet; an
    operator ends it."""
    opened(page, web, "operator")
    version = publish(installation, seed=3, schema=SCHEMA)
    announce(installation, version, "canary", share=0.5)
    expect(page.locator("#canary")).to_contain_text(f"{version} for 50 % of the people")
    expect(page.locator("#canary tbody tr")).to_have_count(2)
    expect(page.locator("#canary tbody tr").first).to_contain_text("reciprocal rank of clicks")
    expect(page.get_by_role("img", name="reciprocal rank of clicks: +0.000")).to_be_visible()
    assert grave_findings(page) == []
    page.locator("#operator-token").fill(OPERATOR)
    page.get_by_role("button", name=f"End canary {version}").click()
    expect(page.locator("#canary")).to_contain_text("No version is tried")


def test_an_operator_moves_versions(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """With the token alone; what was done is seen in the table."""
    announce(installation, publish(installation, seed=4, schema=SCHEMA))
    opened(page, web, "operator")
    version = publish(installation, seed=2, schema=SCHEMA)
    page.locator("#operator-token").fill("another-token-of-somebody")
    row = page.locator("#versions tr", has_text=version)
    expect(row).to_be_visible()
    row.get_by_role("button", name="Promote").click()
    expect(page.locator("#commanded")).to_have_text("this is not the operator's token")
    page.locator("#operator-token").fill(OPERATOR)
    row.get_by_role("button", name="Promote").click()
    expect(row).to_contain_text("promoted")
    page.locator("#pin").click()
    expect(row).to_contain_text("pinned")
    page.locator("#roll-back").click()
    expect(row).not_to_contain_text("pinned")
    expect(page.locator("#versions")).to_contain_text("pinned")


def test_what_was_refused_is_told(page: Page, web: GatewayProcess, installation: Installation) -> None:
    """A dead letter comes with its reason and its sentence, lag with its partitions, and a trainer that is not there
    with the word that it is not."""
    installation.send("interactions", "u", {"user_id": "u", "item_id": "i", "action": "juggle"})
    opened(page, web, "operator")
    expect(page.locator("#letters")).to_contain_text("unknown-action")
    expect(page.locator("#letters")).to_contain_text("the action 'juggle' is given")
    expect(page.locator("#letters")).to_contain_text('"action": "juggle"')
    expect(page.locator("#lag tbody tr")).to_have_count(installation.settings.broker.partitions)
    expect(page.locator("#problems")).to_contain_text("LIVERANK_WEB_TRAINER is host:port of one")


def test_the_server_goes_and_comes_back(page: Page, pages: Any) -> None:
    """The page says so, and goes on by itself: the same list, ranked again after the next click."""
    process = pages("goes").ready()
    port, before = process.port, None
    opened(page, process)
    before = order(page)
    process.kill()
    expect(page.locator("#connection")).to_contain_text("The server is gone")
    page.locator("#list li .item-title").last.click()
    expect(page.locator("#list-note")).to_contain_text("does not answer")
    process.start(port).ready()
    expect(page.locator("#connection")).to_have_text("")
    assert order(page) == before
    ranked_after(page, page.locator("#list li .item-title").last.click)
    expect(page.locator("#list-note")).to_have_text("")


def test_what_is_missing_is_said(page: Page, pages: Any, installation: Installation) -> None:
    """No items, then items; no worker: each in words, and the list is drawn all the same."""
    settings = changed(installation.settings, topics_prefix="empty.", metrics_port=-1)
    empty = Installation(settings, installation.folder / "empty")
    empty.create_topics()
    process = pages("missing", topics_prefix="empty.", metrics_port=-1).ready()
    page.goto(process.address)
    expect(page.locator("#list-note")).to_contain_text("There are no items yet")
    send_items(empty)
    expect(page.locator("#list li")).not_to_have_count(0)
    expect(page.locator("#list-note")).to_contain_text("No worker has answered for 5 s: the list is stale")
    page.locator("#to-operator").click()
    expect(page.locator("#problems")).to_contain_text("LIVERANK_WEB_WORKERS is host:port of one")
    expect(page.locator("#no-buttons")).to_contain_text("LIVERANK_WEB_OPERATOR_TOKEN is not set")


def test_only_who_has_a_token_comes_in(page: Page, pages: Any) -> None:
    """A person types it once; no script reads it afterwards, and no log has it."""
    process = pages("closed", {"LIVERANK_WEB_TOKENS": TOKEN}).ready()
    assert process.ask("GET", "/web/state").status == 401
    assert process.ask("GET", "/web/list", token=TOKEN).status == 200
    assert process.ask("POST", "/web/models", {"what": "pin"}, TOKEN).status == 403
    page.goto(process.address)
    page.locator("#token").fill("not-a-token-of-the-tests")
    page.locator("#token").press("Enter")
    expect(page.locator("#sign-in-problem")).to_contain_text("LIVERANK_WEB_TOKENS of its process has them")
    page.locator("#token").fill(TOKEN)
    page.locator("#token").press("Enter")
    expect(page.locator("#list-foot")).to_contain_text("Ranking")
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert TOKEN not in process.log


def test_a_start_that_cannot_be_is_one_sentence(pages: Any, web: GatewayProcess) -> None:
    """Strangers without tokens, a short token, a port that is taken; a page elsewhere does not reach it by a name."""
    everywhere = "0.0.0.0"  # noqa: S104
    assert "LIVERANK_WEB_TOKENS is not set" in pages("open", web_host=everywhere).ended()
    assert "LIVERANK_WEB_OPERATOR_TOKEN has less" in pages("short", {"LIVERANK_WEB_OPERATOR_TOKEN": "x"}).ended()
    taken = GatewayProcess(web.settings, web.folder.parent / "taken", command="web").start(web.port)
    assert f"port {web.port} of 127.0.0.1 is taken: another page needs another" in taken.ended()
    assert web.ask("GET", "/web/list", Host="shop.example").status == 421


def test_the_questions_of_the_docs_are_answered(web: GatewayProcess) -> None:
    """The addresses that docs/web.md names are there, and so is every setting of its table."""
    told = (REPOSITORY / "docs/web.md").read_text(encoding="utf-8")
    for path in ("/web/state", "/web/list", "/openapi.json", "/live", "/ready", "/metrics"):
        assert f"`{path}`" in told
        assert web.ask("GET", path).status == 200
    assert all(f"`{key}`" in told for key in web.settings.web.__struct_fields__)
