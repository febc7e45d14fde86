"""What people type moves their lists: a real worker with the starter and a real encoder, on Apache Kafka."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from liverank.faults.checker.state import stored_rows
from liverank.faults.readback import ReadBack
from liverank.settings import Settings, changed
from online_learning.first_model.encoders import publish_encoder
from ranker.contracts.clock import now_ms
from ranker.contracts.records import Ranking
from ranker.contracts.schema import FeatureSchema
from ranker.registry.encoder import TextEncoder, load_encoder
from ranker.registry.words import LogWords
from ranker.starter.bundle import publish_starter
from tests.support.browser import chromium
from tests.support.films import WAIT_MS, opened, order, ranked_after
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import Installation
from tests.support.waiting import eventually

SCHEMA = FeatureSchema()
FILMS = {
    "garden": ("A Quiet Garden", "Drama"), "bakery": ("The Old Bakery", "Romance"),
    "fleet": ("Battle of the Star Fleet", "a war between planets, fought by spaceships"),
    "duck": ("The Duck Who Could Not Swim", "a funny cartoon full of jokes and laughter"),
    "letters": ("Letters from a Lighthouse", "Drama"), "trial": ("The Long Trial", "lawyers and a murder"),
    "harvest": ("Harvest", "a family on a farm"), "river": ("Down the River", "a journey by boat"),
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextEncoder]:
    """The one out of the wheels, and the registry that has it and the starter."""
    folder = tmp_path_factory.mktemp("encoder")
    name = publish_encoder(registry=str(folder / "registry"))
    publish_starter(SCHEMA, str(folder / "registry"))
    settings = changed(Settings(), registry=str(folder / "registry"))
    yield load_encoder(settings.registry, name, folder / "cache")


@pytest.fixture(scope="module")
def installation(kafka: str, encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A worker that serves the starter, and has encoded the films."""
    folder = tmp_path_factory.mktemp("words")
    registry = next(tmp_path_factory.getbasetemp().glob("encoder*/registry"))
    settings = changed(
        Settings(), brokers=kafka, registry=str(registry), app="words", metrics_port=-1, session_timeout_s=6.0,
        web_length=len(FILMS),
    )  # fmt: skip
    made = Installation(settings, folder)
    made.create_topics()
    for item, (title, text) in FILMS.items():
        made.send("items", item, {"item_id": item, "title": title, "text": text})
    made.worker("worker").start().ready(120)
    eventually("every film is encoded", lambda: sum(1 for _ in made.read("item-vectors")) >= len(FILMS))
    try:
        yield made
    finally:
        made.close()


def shown(installation: Installation, user: str) -> None:
    items = [{"item_id": item} for item in FILMS]
    installation.send("candidates", user, {"user_id": user, "request_id": "r", "items": items, "ts": now_ms()})


def say(installation: Installation, user: str, text: str, action: str = "search") -> tuple[int, int]:
    event = {"user_id": user, "action": action, "text": text, "event_id": uuid.uuid4().hex, "ts": now_ms()}
    return installation.send("interactions", user, event)


def ranking_after(installation: Installation, user: str, offset: int) -> Ranking:
    """The last ranking of a user, once it covers a text."""

    def covered() -> Ranking | None:
        mine = [one for one in installation.rankings() if one.user_id == user]
        newest = max(mine, key=lambda one: one.revision, default=None)
        return newest if newest is not None and newest.applied.get("interactions", -1) >= offset else None

    found: Ranking = eventually("a ranking knows of the text", covered)
    return found


def test_a_conversation_steers_the_list(installation: Installation) -> None:
    """Nobody clicks: a text brings up what is like it, a second one moves the list again, and the ranking that covers a
    text knows what it says."""
    shown(installation, "talker")
    _, offset = say(installation, "talker", "space war")
    first = ranking_after(installation, "talker", offset)
    assert first.items[0].item_id == "fleet"
    assert (first.cause.kind, first.applied["interactions"]) == ("search", offset)
    _, offset = say(installation, "talker", "but funny", "answer")
    second = ranking_after(installation, "talker", offset)
    assert second.items[0].item_id == "duck"
    assert [one.item_id for one in second.items].index("fleet") < 3
    assert second.revision == first.revision + 1


def test_what_is_no_text_is_a_dead_letter(installation: Installation) -> None:
    """Neither an item nor a text, or one that is too long: said in words that tell what would be right."""
    for bad in ({}, {"text": "  "}, {"text": "x" * 5000}, {"text": "x", "action": "fly"}):
        installation.send("interactions", "clumsy", {"user_id": "clumsy", "action": "search", **bad})
    installation.all_handled()
    said = [(letter.reason, letter.error) for letter in installation.dead_letters()]
    assert [reason for reason, _ in said] == ["invalid"] * 3 + ["unknown-action"]
    assert all("requires user_id, item_id or a text" in error for _, error in said[:2])
    assert "at most 4096" in said[2][1]
    assert "search, question, comment, answer" in said[3][1]


def test_state_is_the_fold_of_the_texts_after_kills(installation: Installation, encoder: TextEncoder) -> None:
    """A worker that is killed while texts wait for the encoder has lost none and counted none twice: each row is what
    its inputs and the encoder make, to the byte; and no text is in any of them."""
    drawn, worker = random.Random(1), installation.workers[0]
    for kill in (30, 75, None):
        for number in range(40):
            user = f"chatty-{number % 6}"
            if number % 4 == 0:
                item = drawn.choice(list(FILMS))
                event = {"user_id": user, "item_id": item, "action": "click", "event_id": uuid.uuid4().hex}
                installation.send("interactions", user, event)
            else:
                say(installation, user, " ".join(drawn.choice(list(FILMS.values()))))
            if kill is not None and number == kill % 40:
                worker.kill()
                worker.start()
        worker.ready(120)
    installation.all_handled()
    back = ReadBack(installation.settings, SCHEMA, words=LogWords(encoder))
    back.read_inputs()
    back.read_rows()
    rows = stored_rows(back.stored)
    chatty = {place: row for place, row in back.folded[0].items() if place[1].startswith(b"chatty")}
    assert len(chatty) == 6
    for place, row in chatty.items():
        stored = rows[place]
        assert (stored.words, stored.events, stored.revision) == (row.words, row.events, row.revision)
        assert stored.applied == row.applied
    assert not any(b"Lighthouse" in value for value in back.stored.values())


def test_an_erasure_forgets_what_was_typed(installation: Installation) -> None:
    """The row has no words any more, and the list is as nobody had typed."""
    shown(installation, "forgotten")
    _, offset = say(installation, "forgotten", "space war")
    ranking_after(installation, "forgotten", offset)
    installation.send("erasures", "forgotten", {"user_id": "forgotten"})
    installation.all_handled()
    back = ReadBack(installation.settings, SCHEMA)
    back.read_rows()
    (row,) = (row for place, row in stored_rows(back.stored).items() if place[1] == b"forgotten")
    assert row.words == ()
    assert row.erased_at > 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MS)
    with chromium() as found:
        yield found


def test_words_in_the_page_re_order_the_list(installation: Installation, browser: Browser) -> None:
    """Typed into the page's box, sent by Enter: the list follows, the box is empty again, and so it is with the next
    words."""
    web = GatewayProcess(installation.settings, installation.folder / "page", {}, command="web").start().ready()
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    try:
        opened(page, web)
        box = page.get_by_label("What are you looking for?")
        for words, wanted in (("space war", "fleet"), ("a funny cartoon", "duck")):
            box.fill(words)
            ranked_after(page, lambda: box.press("Enter"))
            assert order(page)[0] == wanted
            expect(box).to_have_value("")
    finally:
        page.close()
        web.kill()
