"""A real gateway on a real broker: who may ask, what is refused in which words, and what a lost broker costs."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import jsonschema
import pytest

from liverank.settings import changed
from ranker.contracts.records import DeadLetter
from tests.support.gateway_process import GatewayProcess
from tests.support.installation import REPOSITORY, Installation
from tests.support.waiting import eventually

TOKENS = "first-token-of-the-tests", "second-token-of-the-tests"
FIRST, SECOND = TOKENS
_MOST = 20_000


@pytest.fixture(scope="module")
def gateway(installation: Installation) -> Iterator[GatewayProcess]:
    """A gateway beside a worker, with the model's actions."""
    settings = changed(installation.settings, gateway_max_body_bytes=_MOST)
    process = GatewayProcess(settings, installation.folder / "gateway", {"LIVERANK_GATEWAY_TOKENS": ",".join(TOKENS)})
    try:
        yield process.start().ready()
    finally:
        process.kill()


@pytest.fixture
def others(installation: Installation) -> Iterator[Any]:
    """Makes gateways of the same installation, and ends them: `others("name", tokens=..., gateway_rate=1.0)`."""
    made: list[GatewayProcess] = []

    def another(name: str, tokens: str = FIRST, **changes: object) -> GatewayProcess:
        settings = changed(installation.settings, **changes)
        made.append(GatewayProcess(settings, installation.folder / name, {"LIVERANK_GATEWAY_TOKENS": tokens}))
        return made[-1].start()

    yield another
    for process in made:
        process.kill()


@pytest.fixture
def user() -> str:
    """A user that no other test knows."""
    return f"user-{uuid.uuid4().hex[:8]}"


def shown(user: str, *items: str, request: str = "page-1") -> dict[str, Any]:
    """A list for a user."""
    return {"request_id": request, "user_id": user, "items": [{"item_id": item} for item in items]}


def click(user: str, item: str, **more: Any) -> dict[str, Any]:
    """A click."""
    return {"user_id": user, "item_id": item, "action": "click", **more}


def test_only_who_has_a_token_is_answered(gateway: GatewayProcess) -> None:
    """Any of them does; probes and the contract need none, and no token is in the log."""
    for token in (None, "", "x", FIRST + "x", FIRST[:-1], "ümläut-token-of-the-tests"):
        refused = gateway.ask("POST", "/v1/events", click("u", "i"), token)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "token" in refused.json["error"]
    for token in TOKENS:
        assert gateway.ask("POST", "/v1/events", click("u", "i"), token).status == 200
        assert b"liverank_gateway_requests_total" in gateway.ask("GET", "/metrics", token=token).body
    assert gateway.ask("GET", "/metrics").status == gateway.ask("DELETE", "/v1/items/i").status == 401
    for path in ("/live", "/ready", "/openapi.json", "/docs"):
        assert gateway.ask("GET", path).status == 200
    assert not [token for token in TOKENS if token in gateway.log]


def test_without_tokens_it_is_this_machines_alone(others: Any) -> None:
    """It neither listens for others nor answers to a name that a page elsewhere may have given this machine."""
    assert (
        "LIVERANK_GATEWAY_TOKENS is not set: give tokens, or listen on 127.0.0.1"
        in others(
            "open",
            tokens="",
            gateway_host="0.0.0.0",  # noqa: S104
        ).ended()
    )
    short = others("short", tokens=f"{FIRST},brief")
    assert "token 2 of LIVERANK_GATEWAY_TOKENS is none; each has at least 16" in short.ended()
    assert "brief" not in short.log
    own = others("own", tokens="").ready()
    assert own.ask("POST", "/v1/events", click("u", "i")).status == 200
    assert own.ask("POST", "/v1/events", click("u", "i"), Host="shop.example").status == 421
    assert own.ask("POST", "/v1/events", click("u", "i"), Content_Type="text/plain").status == 415


def test_a_start_that_cannot_be_is_one_sentence(
    others: Any, gateway: GatewayProcess, installation: Installation
) -> None:
    """The broker, the topics, the port."""
    assert "no Kafka broker answers at 127.0.0.1:1" in others("no-broker", brokers="127.0.0.1:1").ended()
    missing = others("no-topics", topics_prefix="none.").ended()
    assert "the topic none.rankings does not exist; `liverank topics create` makes it" in missing
    taken = GatewayProcess(installation.settings, installation.folder / "taken")
    taken.start(port=gateway.port)
    assert f"port {gateway.port} of 127.0.0.1 is taken" in taken.ended()


def test_what_is_too_large_or_too_much_is_refused(gateway: GatewayProcess, others: Any, user: str) -> None:
    """A body, with and without a length; the records of a token, while another token's pass."""
    large = [click(user, "i" * 100) for _ in range(200)]
    refused = gateway.ask("POST", "/v1/events", large, FIRST)
    assert refused.status == 413 and f"more than {_MOST} bytes" in refused.json["error"]
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {FIRST}"}
    connection.request("POST", "/v1/events", iter([json.dumps(large).encode()]), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    slow = others("slow", tokens=",".join(TOKENS), gateway_rate=0.01).ready()
    assert slow.ask("POST", "/v1/events", [click(user, "i")] * 5, FIRST).status == 200
    refused = slow.ask("POST", "/v1/events", click(user, "i"), FIRST)
    assert refused.status == 429 and int(refused.headers["Retry-After"]) > 60
    assert slow.ask("POST", "/v1/events", click(user, "i"), SECOND).status == 200


def test_what_http_brings_along_is_answered_too(gateway: GatewayProcess, user: str) -> None:
    """A body that is compressed, a path in another encoding, and a question for the head of a stream alone."""
    packed = gzip.compress(json.dumps(click(user, "item-1")).encode())
    refused = gateway.ask("POST", "/v1/events", packed, FIRST, Content_Encoding="gzip")
    assert refused.status == 415 and "its Content-Encoding is 'gzip'" in refused.json["error"]
    for method, path in (("DELETE", "/v1/items/caf%E9"), ("GET", "/v1/users/caf%E9/ranking")):
        refused = gateway.ask(method, path, token=FIRST)
        assert (refused.status, refused.json["error"][:23]) == (400, "the path is not UTF-8 o")
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    for _ in range(2):  # on one connection: the first is over
        connection.request("HEAD", f"/v1/users/{user}/rankings", headers={"Authorization": f"Bearer {FIRST}"})
        answered = connection.getresponse()
        assert (answered.status, answered.read()) == (200, b"")
    connection.close()


def test_of_too_many_connections_probes_alone_are_answered(others: Any) -> None:
    """The others hear so in a sentence, and when to come again; once there is room they are let in."""
    process = others("few", gateway_connections=2).ready()
    open_ones = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(2)]
    try:
        refused = process.ask("POST", "/v1/events", click("u", "i"), FIRST)
        assert refused.status == 503 and "2 connections are open, and no more are allowed" in refused.json["error"]
        assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
        assert process.ask("GET", "/live").status == process.ask("GET", "/ready").status == 200
    finally:
        for one in open_ones:
            one.close()
    eventually("there is room", lambda: process.ask("POST", "/v1/events", click("u", "i"), FIRST).status == 200)


MALFORMED: dict[str, tuple[str, str, Any]] = {
    "half a record": ("/v1/events", "interactions", b'{"user_id": "bad", "item'),
    "not UTF-8": ("/v1/events", "interactions", b'{"user_id": "bad", "item_id": "\xff\xfe"}'),
    "a wrong type": ("/v1/events", "views", {"user_id": "bad", "item_id": 5, "action": "view"}),
    "a missing field": ("/v1/events", "interactions", {"user_id": "bad"}),
    "no object": ("/v1/items", "items", b'"bad"'),
    "an unknown action": ("/v1/events", "interactions", {"user_id": "bad", "item_id": "i", "action": "stare"}),
    "no action": ("/v1/events", "interactions", {"user_id": "bad", "item_id": "i"}),
    "seconds": ("/v1/candidates", "candidates", {**shown("bad", "i"), "ts": 1_700_000_000}),
    "an empty list": ("/v1/candidates", "candidates", shown("bad")),
    "a list of 1,001": ("/v1/candidates", "candidates", shown("bad", *map(str, range(1001)))),
    "an item without an id": ("/v1/items", "items", {"title": "a hat"}),
    "no attributes": ("/v1/users", "users", {"user_id": "bad", "attributes": 3}),
    "an erasure of nobody": ("/v1/erasures", "erasures", {}),
}


def letter_of(installation: Installation, place: tuple[str, int, int]) -> DeadLetter:
    """The dead letter of an input."""

    def found() -> DeadLetter | None:
        letters = installation.dead_letters()
        return next((one for one in letters if (one.topic, one.partition, one.offset) == place), None)

    letter: DeadLetter = eventually(f"a dead letter for {place}", found)
    return letter


def test_what_no_worker_takes_is_refused_in_its_words(others: Any, installation: Installation) -> None:
    """The reason and the sentence of each are those of the dead letter that the same bytes become."""
    gateway = others("refusing").ready()
    places, answers = {}, {}
    for case, (path, topic, value) in MALFORMED.items():
        answers[case] = gateway.ask("POST", path, value, FIRST)
        places[case] = (topic, *installation.send(topic, "bad", value))
    for case, refused in answers.items():
        letter = letter_of(installation, places[case])
        assert (refused.status, refused.json["reason"], refused.json["error"]) == (422, letter.reason, letter.error), (
            case
        )


def test_of_many_records_none_is_sent_where_one_is_refused(
    gateway: GatewayProcess, installation: Installation, user: str
) -> None:
    """The answer says which; a question for a ranking too says where it stands."""
    good, bad = click(user, "item-1"), {"user_id": user, "item_id": "item-1"}
    refused = gateway.ask("POST", "/v1/events", [good, bad, good, {}], FIRST)
    assert refused.status == 422
    assert [one["where"] for one in refused.json["refused"]] == ["[1]", "[3]"]
    asked = {"candidates": shown(user, "item-1"), "events": [good, bad]}
    assert gateway.ask("POST", "/v1/rank", asked, FIRST).json["where"] == "events[1]"
    assert (
        gateway.ask("POST", "/v1/rank", {"candidates": shown(user), "events": []}, FIRST).json["where"] == "candidates"
    )
    assert "candidates" in gateway.ask("POST", "/v1/rank", {"events": []}, FIRST).json["error"]
    sent = [message for topic in ("clicks", "candidates") for message in installation.read(topic)]
    assert user.encode() not in {message.key() for message in sent}


def test_a_list_is_ranked_and_followed(gateway: GatewayProcess, user: str) -> None:
    """The answer covers what was sent, the stream tells of it and of what comes later, and the newest is there."""
    assert gateway.ask("GET", f"/v1/users/{user}/ranking", token=FIRST).status == 404
    with gateway.stream(user, FIRST) as rankings:
        asked = {"candidates": shown(user, "item-1", "item-2"), "events": [click(user, "item-2")], "within_ms": 30_000}
        answered = gateway.ask("POST", "/v1/rank", asked, FIRST).json
        assert not answered["stale"]
        offsets = {one["topic"]: one["offset"] for one in answered["accepted"]}
        assert answered["ranking"]["applied"] == offsets
        assert any(ranking == answered["ranking"] for ranking in rankings)
        (accepted,) = gateway.ask("POST", "/v1/events", click(user, "item-1"), FIRST).json["accepted"]
        last = next(one for one in rankings if one["applied"]["clicks"] >= accepted["offset"])
    newest = gateway.ask("GET", f"/v1/users/{user}/ranking?request_id=page-1", token=FIRST).json
    assert newest == last
    with gateway.stream(user, FIRST) as rankings:
        assert next(rankings) == last
    assert gateway.ask("GET", f"/v1/users/{user}/ranking?request_id=other", token=FIRST).status == 404


def test_gateways_stand_side_by_side(gateway: GatewayProcess, others: Any, user: str) -> None:
    """What one sends the other tells of too, and one that starts later knows what came before."""
    second = others("second").ready()
    with second.stream(user, FIRST) as rankings:
        asked = {"candidates": shown(user, "item-1", "item-2"), "within_ms": 30_000}
        ranking = gateway.ask("POST", "/v1/rank", asked, FIRST).json["ranking"]
        assert next(rankings) == ranking
    third = others("third").ready()
    for one in (gateway, second, third):
        assert one.ask("GET", f"/v1/users/{user}/ranking", token=FIRST).json == ranking


def test_it_ends_in_order(installation: Installation, others: Any, user: str) -> None:
    """On SIGTERM who waits is answered, who follows comes to an end, and the process ends with status 0."""
    process = others("ending").ready()
    (worker,) = installation.workers
    worker.pause()
    try:
        with process.stream(user, FIRST) as rankings:
            answers: list[Any] = []
            asked = {"candidates": shown(user, "item-1"), "within_ms": 30_000}
            waiting = threading.Thread(target=lambda: answers.append(process.ask("POST", "/v1/rank", asked, FIRST)))
            waiting.start()
            eventually("the list is the broker's", lambda: user.encode() in keys_of(installation, "candidates"))
            assert process.stop() == 0
            waiting.join(30)
            assert [(one.status, one.json["stale"], one.json["ranking"]) for one in answers] == [(200, True, None)]
            assert list(rankings) == []
    finally:
        worker.resume()
    assert "Traceback" not in process.log


def test_a_list_is_ranked_for_a_group(gateway: GatewayProcess, user: str) -> None:
    """Of a list that is nobody's: each member has it ranked, and the answer is their scores together."""
    members = [f"{user}-ann", f"{user}-ben"]
    listed = {"request_id": "evening", "items": [{"item_id": f"item-{number}"} for number in range(5)], "k": 3}
    asked = {"members": members, "candidates": listed, "events": [click(members[1], "item-3")], "within_ms": 30_000}
    answered = gateway.ask("POST", "/v1/rank-group", asked, FIRST).json
    assert [one["topic"] for one in answered["accepted"]] == ["candidates", "clicks", "candidates"]
    group = answered["group"]
    assert (group["by"], group["missing"], group["stale"], len(group["items"])) == ("average", [], [], 3)
    own = {one: gateway.ask("GET", f"/v1/users/{one}/ranking?request_id=evening", token=FIRST).json for one in members}
    scores = {one: {line["item_id"]: line["score"] for line in own[one]["items"]} for one in members}
    assert len(scores[members[0]]) == 5, "each ranks the whole list"
    mean = {item: sum(each[item] for each in scores.values()) / 2 for item in scores[members[0]]}
    assert [line["item_id"] for line in group["items"]] == sorted(mean, key=lambda item: -mean[item])[:3]
    for wrong, where, error in (
        ({"members": []}, "members", "1 to 50 members"), ({"by": "vote"}, "", "Invalid enum value 'vote'"),
        ({"events": [click("stranger", "item-1")]}, "members", "'stranger'"), ({"candidates": []}, "", "array"),
        ({"candidates": {"request_id": "evening", "items": []}}, "candidates", "items"),
        ({"members": ["ann", ""], "events": []}, "candidates", "user_id"),
    ):  # fmt: skip
        refused = gateway.ask("POST", "/v1/rank-group", asked | wrong, FIRST)
        assert (refused.status, refused.json["where"]) == (422, where) and error in refused.json["error"]


def keys_of(installation: Installation, topic: str) -> set[bytes | None]:
    """Keys of all that a topic holds."""
    return {message.key() for message in installation.read(topic)}


def test_the_contract_holds_of_what_is_answered(gateway: GatewayProcess, user: str) -> None:
    """Every reference of the OpenAPI document leads somewhere, and real questions and answers fit their schemas."""
    document = gateway.ask("GET", "/openapi.json").json
    assert set(document["paths"]) >= {"/v1/events", "/v1/rank", "/v1/users/{user_id}/rankings"}
    references = [part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]]
    assert set(references) <= set(document["components"]["schemas"])

    def fits(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    listed = shown(user, "item-1", "item-2") | {"reasons": 3}
    asked = {"candidates": listed, "events": [click(user, "item-1")], "within_ms": 30_000}
    fits("RankQuestion", asked)
    fits("RankedAnswer", gateway.ask("POST", "/v1/rank", asked, FIRST).json)
    together = {"members": [user], "candidates": {"request_id": "page-1", "items": [{"item_id": "item-1"}]}}
    fits("GroupQuestion", together | {"by": "least-misery"})
    fits("GroupAnswer", gateway.ask("POST", "/v1/rank-group", together, FIRST).json)
    fits("AcceptedRecords", gateway.ask("POST", "/v1/events", [click(user, "item-1")], FIRST).json)
    fits("AcceptedRecords", gateway.ask("DELETE", "/v1/items/nobody%2Fs", token=FIRST).json)
    fits("Problem", gateway.ask("POST", "/v1/events", [{}], FIRST).json)
    fits("Ranking", gateway.ask("GET", f"/v1/users/{user}/ranking", token=FIRST).json)
    page = gateway.ask("GET", "/docs").body.decode()
    assert (
        "/v1/users/{user_id}/rankings" in page
        and "<script" not in page
        and "//" not in page.replace("https://json", "")
    )
    assert gateway.ask("GET", "/v2/anything", token=FIRST).json["error"].startswith("Not Found")


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")
def test_the_example_in_javascript_runs(gateway: GatewayProcess) -> None:
    """A list is ranked, and the ranking that covers the click comes on the stream."""
    ran = subprocess.run(
        ["node", str(REPOSITORY / "examples/gateway.mjs"), gateway.address],
        capture_output=True, text=True, check=False, env=os.environ | {"LIVERANK_GATEWAY_TOKEN": FIRST}, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, last = ran.stdout.splitlines()
    assert first.startswith("ranked: ") and last.startswith("after the click: ")


def test_the_questions_of_the_docs_are_answered(gateway: GatewayProcess) -> None:
    """The bodies that docs/gateway.md has curl send."""
    page = (REPOSITORY / "docs/gateway.md").read_text(encoding="utf-8")
    asked = re.findall(r"curl -s http://127.0.0.1:8080(/v1/\S+) .*?-d '(.*?)'\n", page, re.DOTALL)
    assert [path for path, _ in asked] == ["/v1/events", "/v1/rank", "/v1/rank-group"]
    for path, body in asked:
        answered = gateway.ask("POST", path, body.encode(), FIRST)
        assert answered.status == 200, answered.json
        assert "clicks" in {one["topic"] for one in answered.json["accepted"]}
