"""Two installations on one cluster: one by a prefix alone, one over topics that run already, in others' form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from liverank.cli.main import app
from liverank.operate.look import newest_dead_letters, state_of
from liverank.settings import Settings, changed, environment_of, load_settings
from ranker.contracts.records import Ranking
from streams.kafka.checks import check_topics
from tests.support.installation import Installation
from tests.support.tiny import tiny_bundle
from tests.support.waiting import eventually

MAPPED = """
[broker]
addresses = "{address}"
partitions = 2
session_timeout_s = 6.0

[registry]
address = "{registry}"

[worker]
metrics_port = -1

[topics]
prefix = "shop-b."
candidates = "search.results"

[topics.clicks]
name = "web.clicks.v2"

[topics.clicks.fields]
user_id = "uid"
item_id = "product.sku"
ts = {{ column = "at", time = "s" }}
"""


class Pair(NamedTuple):
    """Two installations, whose workers serve."""

    plain: Installation  # under `shop-a.`
    mapped: Installation  # under `shop-b.`, two of its inputs being others'


@pytest.fixture(scope="module")
def pair(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both start at once; the second one's running topics are there before."""
    folder = tmp_path_factory.mktemp("pair")
    tiny_bundle(folder / "registry")
    options = {"brokers": kafka, "registry": folder / "registry", "metrics_port": -1, "session_timeout_s": 6.0}
    plain = changed(Settings(), **options, partitions=3, topics_prefix="shop-a.")
    config = folder / "liverank.toml"
    config.write_text(MAPPED.format(address=kafka, registry=folder / "registry"), encoding="utf-8")
    mapped = load_settings(config, environ={})
    theirs = [NewTopic(name, num_partitions=2, replication_factor=1) for name in ("web.clicks.v2", "search.results")]
    admin = AdminClient({"bootstrap.servers": kafka})
    for made in admin.create_topics(theirs).values():
        made.result(30)
    both = Pair(Installation(plain, folder / "a"), Installation(mapped, folder / "b"))
    try:
        for installation, arguments in ((both.plain, ()), (both.mapped, ("--config", str(config)))):
            installation.create_topics()
            installation.worker("one", arguments=arguments).start()
        for installation in both:
            installation.workers[0].ready()
        yield both
    finally:
        for installation in both:
            installation.close()


def rankings(installation: Installation) -> dict[str, Ranking]:
    """The newest ranking of each user."""
    return {ranking.user_id: ranking for ranking in sorted(installation.rankings(), key=lambda one: one.revision)}


def ranked(installation: Installation, user: str, revision: int) -> Ranking:
    """A user's ranking, once it has come so far."""

    def reached() -> bool:
        found = rankings(installation).get(user)
        return found is not None and found.revision >= revision

    eventually(f"revision {revision} of {user}\n{installation.workers[0].log[-3000:]}", reached)
    return rankings(installation)[user]


def listed(user: str) -> dict[str, Any]:
    """A list of two items."""
    return {"user_id": user, "request_id": "r1", "items": [{"item_id": "item-1"}, {"item_id": "item-2"}]}


@pytest.mark.timeout(240)
def test_two_installations_share_a_cluster(pair: Pair) -> None:
    """Each ranks its own users, by topics of its own names, which positions go by.

    The same user is another one in each: neither's rows, rankings or refusals show anything of the other's.
    """
    plain, mapped = pair
    plain.send("shop-a.candidates", "u1", listed("u1"))
    plain.send("shop-a.clicks", "u1", {"user_id": "u1", "item_id": "item-2"})
    mapped.send("search.results", "u1", listed("u1"))
    placed = mapped.send("search.results", "7", listed("7"))
    ranked(mapped, "7", 1)  # between topics there is no order
    at = plain.send("web.clicks.v2", "7", {"uid": 7, "product": {"sku": "item-1"}, "at": 1_763_700_000})
    bad = mapped.send("web.clicks.v2", "7", {"uid": 8, "product": {"sku": "item-1"}})

    own, others = ranked(plain, "u1", 2), ranked(mapped, "7", 2)
    assert own.applied == {"shop-a.candidates": 0, "shop-a.clicks": 0}
    assert others.applied == {"search.results": placed[1], "web.clicks.v2": at[1]}
    assert (others.cause.kind, others.cause.topic) == ("click", "web.clicks.v2")
    assert {item.item_id for item in others.items} == {"item-1", "item-2"}
    assert ranked(mapped, "u1", 1).revision == 1  # no click of this one: that was the other installation's
    assert set(rankings(plain)) == {"u1"}
    (refused,) = eventually("the dead letter", mapped.dead_letters)
    assert (refused.reason, refused.topic, refused.partition, refused.offset) == ("key-mismatch", "web.clicks.v2", *bad)
    assert not plain.dead_letters()


@pytest.mark.timeout(120)
def test_what_operators_ask_goes_by_the_same_names(pair: Pair, tmp_path: Path) -> None:
    """Checks, dead letters, states and the documents; the second installation's settings are its file's."""
    plain, mapped = pair
    assert check_topics(plain.settings.broker) == check_topics(mapped.settings.broker) == []
    eventually("the row is written", lambda: state_rows(mapped))
    state = state_of(mapped.settings, "7")
    assert set(state["applied"]) == {"search.results", "web.clicks.v2"}
    assert state["events"][0]["ts"] == "2025-11-21T04:40:00.000+00:00"
    assert [letter["topic"] for letter in newest_dead_letters(mapped.settings, 5)] == ["web.clicks.v2"]
    config = mapped.folder.parent / "liverank.toml"
    checked = CliRunner().invoke(app, ["topics", "check", "--config", str(config), "--json", str(tmp_path / "check")])
    assert checked.exit_code == 0, checked.output
    told = json.loads((tmp_path / "check").read_text())
    assert told["errors"] == []
    (misfit,) = told["warnings"]
    assert "of the newest 2 records of web.clicks.v2 1 do not fit (50%)" in misfit
    assert "1 key-mismatch (web.clicks.v2-" in misfit
    asked = CliRunner().invoke(app, ["schema", "--config", str(config)])
    document = json.loads(asked.stdout)["asyncapi"]
    assert document["channels"]["clicks"]["address"] == "web.clicks.v2"
    assert document["channels"]["rankings"]["address"] == "shop-b.rankings"
    (message,) = document["channels"]["clicks"]["messages"].values()
    assert message["x-liverank-fields"]["item_id"] == {"column": "product.sku"}


def state_rows(installation: Installation) -> list[Message]:
    """Rows in the changelog, of both users."""
    rows = list(installation.read(installation.settings.broker.changelog))
    return rows if {row.key() for row in rows if b"\xff" not in row.key()} == {b"u1", b"7"} else []


@pytest.mark.timeout(60)
def test_topics_that_others_have_named_are_not_made(kafka: str) -> None:
    """A misspelt name must not become an empty topic that nobody writes to."""
    settings = changed(Settings(), brokers=kafka, topics_prefix="shop-c.", topics_clicks="web.clikcs")
    installation = Installation(settings, Path("unused"))
    installation.create_topics()
    (problem,) = check_topics(settings.broker)
    assert "the topic web.clikcs, which [topics] names for clicks, does not exist; correct its name" in problem
    assert environment_of(settings)["LIVERANK_TOPICS_CLICKS"] == "web.clikcs"
