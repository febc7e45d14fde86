"""The gateway's contract: its routes, an OpenAPI document of the records' own schemas, and a page to read it on."""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec
from msgspec import Struct

from liverank.gateway.answers import AcceptedRecords, GroupAnswer, Problem, RankedAnswer
from liverank.gateway.questions import GroupQuestion, RankQuestion
from ranker.contracts.documents import record_schemas
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, Ranking, User
from ranker.contracts.topics import CANDIDATES, ERASURES, INTERACTIONS, ITEMS, TOPICS, USERS


class GatewayRoute(Struct, frozen=True, kw_only=True):
    """A question that a gateway answers."""

    name: str
    method: str
    path: str
    purpose: str
    topic: str = ""  # that its records go to; of events where the action has none of its own


_USER = "/v1/users/{user_id:path}"
ROUTES = (
    GatewayRoute(
        name="events", method="POST", path="/v1/events", topic=INTERACTIONS,
        purpose="Send what users did, one event or an array of them. They are accepted once the brokers have them.",
    ),
    GatewayRoute(
        name="candidates", method="POST", path="/v1/candidates", topic=CANDIDATES,
        purpose="Send lists to rank, one or an array of them; their rankings come on the stream.",
    ),
    GatewayRoute(
        name="items", method="POST", path="/v1/items", topic=ITEMS,
        purpose="Describe items of the catalogue, one or an array of them.",
    ),
    GatewayRoute(
        name="withdraw", method="DELETE", path="/v1/items/{item_id:path}",
        purpose="Withdraw an item from the catalogue: it is in no later ranking until it is described again.",
    ),
    GatewayRoute(
        name="users", method="POST", path="/v1/users", topic=USERS,
        purpose="Send users' attributes, one record or an array of them.",
    ),
    GatewayRoute(
        name="erasures", method="POST", path="/v1/erasures", topic=ERASURES,
        purpose="Have users forgotten, one record or an array of them.",
    ),
    GatewayRoute(
        name="rank", method="POST", path="/v1/rank",
        purpose="Send a list and the same user's newest events, and wait for the ranking that knows of all of them; at "
        "the deadline the newest that is known, marked stale, or null.",
    ),
    GatewayRoute(
        name="rank-group", method="POST", path="/v1/rank-group",
        purpose="Have a list ranked for each of several users, and their scores put together: by the mean, the least "
        "or the most of them. At the deadline by what is known; it says whose ranking is missing or stale.",
    ),
    GatewayRoute(
        name="ranking", method="GET", path=f"{_USER}/ranking",
        purpose="The newest ranking that is known of a user, or of the list request_id.",
    ),
    GatewayRoute(
        name="rankings", method="GET", path=f"{_USER}/rankings",
        purpose="A user's rankings as server-sent events: what is known, then each as it comes.",
    ),
    GatewayRoute(name="metrics", method="GET", path="/metrics", purpose="Numbers for Prometheus."),
)  # fmt: skip

_PROBLEMS = {
    "401": "no token of this gateway", "413": "a body that is too large", "415": "a body that is no JSON by its type",
    "422": "records that no worker takes: nothing was sent", "429": "too many records a second; see Retry-After",
    "503": "the brokers do not take it now; see Retry-After",
}  # fmt: skip


def openapi(version: str, *, with_tokens: bool) -> dict[str, Any]:
    """An OpenAPI 3.1 document.

    Args:
        version: of this release.
        with_tokens: whether a token is asked for.
    """
    records = (Interaction, CandidateList, Item, User, Erasure, Ranking)
    schemas = record_schemas(records, "#/components/schemas/{name}")
    own = msgspec.json.schema_components(
        (AcceptedRecords, RankedAnswer, GroupAnswer, Problem, RankQuestion, GroupQuestion),
        ref_template="#/components/schemas/{name}",
    )[1]
    for question in ("RankQuestion", "GroupQuestion"):
        own[question]["properties"] |= {
            "candidates": _ref("CandidateList"), "events": {"type": "array", "items": _ref("Interaction")},
        }  # fmt: skip
    listed = schemas["CandidateList"]
    own["GroupQuestion"]["properties"]["candidates"] = listed | {
        "description": "The list that each member has ranked; whose it is need not be said.",
        "required": [name for name in listed["required"] if name != "user_id"],
    }
    own["RankedAnswer"]["properties"]["ranking"] = {"anyOf": [_ref("Ranking"), {"type": "null"}]}
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path.replace(":path", ""), {})[route.method.lower()] = _operation(route)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "liverank gateway", "version": version},
        "paths": paths,
        "components": {"schemas": {**schemas, **own}},
    }
    if with_tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(route: GatewayRoute) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref("AcceptedRecords")}}
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.purpose}
    if route.topic:
        record = _ref(TOPICS[route.topic].record.__name__)
        operation["requestBody"] = _body({"anyOf": [record, {"type": "array", "items": record}]})
    elif route.name == "rank":
        operation["requestBody"] = _body(_ref("RankQuestion"))
        content = {"application/json": {"schema": _ref("RankedAnswer")}}
    elif route.name == "rank-group":
        operation["requestBody"] = _body(_ref("GroupQuestion"))
        content = {"application/json": {"schema": _ref("GroupAnswer")}}
    elif route.name == "withdraw":
        pass  # it has no body, and is answered as records are
    elif route.name == "ranking":
        content = {"application/json": {"schema": _ref("Ranking")}}
    else:
        content = {"text/event-stream" if route.name == "rankings" else "text/plain": {"schema": {"type": "string"}}}
    names = [(name, "path") for name in ("user_id", "item_id") if f"{{{name}" in route.path]
    names += [("request_id", "query")] if route.name == "ranking" else []
    if names:
        operation["parameters"] = [
            {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
            for name, place in names
        ]
    problems = _PROBLEMS if route.method == "POST" else {key: _PROBLEMS[key] for key in ("401", "429", "503")}
    if route.name == "withdraw":
        problems = problems | {"422": "no item can have this id"}
    if route.name == "ranking":
        problems = problems | {"404": "no ranking is known"}
    operation["responses"] = {"200": {"description": "done", "content": content}} | {
        status: {"description": what, "content": {"application/json": {"schema": _ref("Problem")}}}
        for status, what in problems.items()
    }
    return operation


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#8881;padding:1rem;overflow:auto}
h2 code{background:#8882;padding:.2rem .4rem}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}"""


def docs_page(document: dict[str, Any]) -> str:
    """The document as a page that needs no script and nothing from elsewhere."""
    parts = [f"<h1>liverank gateway {escape(document['info']['version'])}</h1>"]
    if "security" in document:
        parts.append("<p>Each request has a header <code>Authorization: Bearer TOKEN</code>.</p>")
    parts.append('<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rows = "".join(
                f"<tr><td>{status}</td><td>{escape(found['description'])}</td></tr>"
                for status, found in operation["responses"].items()
            )
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
                f"<table>{rows}</table>"
            )
    parts.append("<h2>Records</h2>")
    for name, schema in document["components"]["schemas"].items():
        shown = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        parts.append(f"<details><summary><code>{escape(name)}</code></summary><pre>{escape(shown)}</pre></details>")
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>liverank gateway</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
