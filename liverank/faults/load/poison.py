"""What strangers send: every kind of input that must cost itself alone, and extreme ones that are taken.

Whoever sends them finds out whether a process ends of them, and whether dead letters are those deserved.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from liverank.faults.load.inputs import Planned
from ranker.contracts.records import Example
from ranker.contracts.schema import Action, CandidateFeature, FeatureSchema, Normalise
from ranker.contracts.topics import (
    CANDIDATES,
    CLICKS,
    ERASURES,
    ITEM_VECTORS,
    ITEMS,
    MODEL_DELTAS,
    MODEL_UPDATES,
    USERS,
)

#: The schema that these inputs are extreme by: a candidate's and an item's price.
PRICED = FeatureSchema(
    actions=(Action(name="view"), Action(name="click", positive=True)),
    candidate_features=(CandidateFeature(name="price", normalise=(Normalise.NONE, Normalise.LIST)),),
    item_numeric=("price",),
)
#: Nested deeper than Python's or msgspec's stack.
DEEP = b"[" * 1500 + b"]" * 1500
CODECS = ("gzip", "snappy", "lz4", "zstd")
_HALF_AN_HOUR = 1_800_000

#: topic, body beside the user's id, reason of the dead letter
_REFUSED: tuple[tuple[str, Any, str], ...] = (
    (CLICKS, {"item_id": "a", "value": 1.7976931348623157e308}, "invalid"),
    (CLICKS, {"item_id": "a", "value": 1e39}, "invalid"),
    (CLICKS, {"item_id": "a", "ts": 10**25}, "invalid"),
    (CLICKS, b'{"user_id":"%s","item_id":"a","debug":' + DEEP + b"}", "invalid"),
    (CLICKS, b'{"user_id":"%s","item_id":"\\ud800"}', "not-json"),
    (CANDIDATES, {"request_id": "k", "k": 10**30, "items": [{"item_id": "a"}]}, "invalid"),
    (CANDIDATES, {"request_id": "empty", "items": []}, "empty-list"),
)
#: key, body, reason
_REFUSED_ITEMS: tuple[tuple[bytes, bytes | None, str], ...] = (
    (b"p", b'{"item_id":"p","published_at":9999999999999999999999}', "invalid"),
    (b"p", b'{"item_id":"p","published_at":1763000000}', "past-timestamp"),
    (b"p", b'{"item_id":"p","published_at":1763000000000000}', "future-timestamp"),
    (b"p", b'{"item_id":"p","numeric":{"price":1e39}}', "invalid"),
    (b"p", b'{"item_id":"p","x":' + DEEP + b"}", "invalid"),
    (b"\x00\xc8", None, "bad-key"),
)
#: Extreme and within the bounds, or not as declared and meant all the same.
_TAKEN: tuple[tuple[str, Any], ...] = (
    (CLICKS, {"item_id": "a", "value": 3.4028235e38}),
    (CLICKS, {"item_id": "a", "event_id": "", "request_id": "", "position": -1}),
    (
        CANDIDATES,
        {
            "request_id": "wide",
            "items": [
                {"item_id": f"i{at}", "features": {f"f{at}-{name}": at for name in range(3)}} for at in range(1000)
            ],
        },
    ),
    (CANDIDATES, {"request_id": "odd", "items": [{"item_id": "a", "features": {"price": True, "x": "red"}}]}),
    (
        CANDIDATES,
        {
            "request_id": "large",
            "items": [{"item_id": "a", "features": {"price": 3.4e38}}, {"item_id": "b", "features": {"price": -3e38}}],
        },
    ),
    (CLICKS, {"item_id": "a", "value": -3.4e38}),
    (CLICKS, {"item_id": "a", "ts": 0, "value": "3.5", "context": {"n": -1e300, "m": {}}}),
    (
        CANDIDATES,
        {"request_id": "meant", "k": "2", "items": [{"item_id": "a", "score": 1e39, "features": {"price": 1e39}}]},
    ),
    (USERS, {"attributes": {"age": 1e39, "home": []}}),
)


def to_be_refused(user: str, now: int) -> Iterator[Planned]:
    """Inputs of a user's that become dead letters, and items that do.

    Args:
        user: whose they are.
        now: milliseconds since the epoch.
    """
    for topic, body, reason in _REFUSED:
        value = body.replace(b"%s", user.encode()) if isinstance(body, bytes) else _body(user, body)
        yield Planned(topic=topic, key=user.encode(), value=value, reason=reason)
    stamped = {"item_id": "a", "context": {"stamp": "seconds"}}
    yield Planned(
        topic=CLICKS, key=user.encode(), value=_body(user, stamped), timestamp=now // 1000, reason="past-timestamp"
    )
    listed = {"request_id": "t", "items": [{"item_id": "a"}]}
    for topic, body in ((CANDIDATES, listed), (ERASURES, {})):
        yield Planned(
            topic=topic, key=user.encode(), value=_body(user, body), timestamp=now + _HALF_AN_HOUR,
            reason="future-timestamp",
        )  # fmt: skip
    yield Planned(topic=CLICKS, key=b"somebody", value=_body(user, {"item_id": "a"}), reason="key-mismatch")
    for key, described, reason in _REFUSED_ITEMS:
        yield Planned(topic=ITEMS, key=key, value=described, reason=reason)


def taken(user: str) -> Iterator[Planned]:
    """Extreme inputs of a user's that are used all the same."""
    for topic, body in _TAKEN:
        yield Planned(topic=topic, key=user.encode(), value=_body(user, body))


def compressed(user: str) -> Iterator[Planned]:
    """A click and an item by each codec: by a topic of the consumer group, and by one that all follow."""
    for codec in CODECS:
        text = "again and " * 200
        event = {"item_id": "a", "event_id": f"{user}-{codec}", "text": text}
        yield Planned(topic=CLICKS, key=user.encode(), value=_body(user, event), codec=codec)
        item = json.dumps({"item_id": codec, "text": text}).encode()
        yield Planned(topic=ITEMS, key=codec.encode(), value=item, codec=codec)


def control(model: str, outside: str, now: int) -> Iterator[Planned]:
    """Records of the control topics that no process may follow: names that lead out of its folders, and none at all.

    Args:
        model: its name.
        outside: a folder that none of them may touch.
        now: milliseconds since the epoch.
    """
    for version in ("../poison", "../../poison", "..", outside, "a\n"):
        update = {"model": model, "version": version, "sha256": "00", "stage": "promoted", "ts": now}
        delta = {"model": model, "base": version, "sequence": 1, "learned_until": 1, "rows": {"x": "!"}}
        yield Planned(topic=MODEL_UPDATES, key=model.encode(), value=json.dumps(update).encode())
        yield Planned(topic=MODEL_DELTAS, key=model.encode(), value=json.dumps(delta).encode())
    for topic in (MODEL_UPDATES, MODEL_DELTAS):
        yield Planned(topic=topic, key=b"\xff", value=b'{"x":' + DEEP + b"}")
        yield Planned(topic=topic, key=b"x", value=None)


def vectors(encoder: str) -> Iterator[Planned]:
    """Texts' vectors that are odd, wide, long, infinite, of another width, of other encoders."""
    numbers = {"odd": b"abc", "narrow": bytes(2), "infinite": b"\x00\x7c" * 24, "long": bytes(4 << 20), "none": b""}
    for name, vector in numbers.items():
        for given in (encoder, "other", "../x"):
            record = {"item_id": "a", "encoder": given, "text_hash": name, "vector": base64.b64encode(vector).decode()}
            yield Planned(topic=ITEM_VECTORS, key=b"a", value=json.dumps(record).encode())
    yield Planned(topic=ITEM_VECTORS, key=b"\xff\xfe", value=b"[")


def spoiled(good: Example, now: int, prefix: str = "bad") -> list[Example]:
    """Examples that cannot be learned from, made of a good one with an outcome; `PREFIX-NUMBER` names them.

    Args:
        good: an example.
        now: milliseconds since the epoch.
        prefix: of their ids.
    """
    change, outcome = msgspec.structs.replace, good.outcome
    assert outcome is not None
    bad = [
        change(good, state=good.state[:-7]),
        change(good, state=b"\xffgarbage"),
        change(good, statistics=good.statistics[:-12]),
        change(good, statistics=b"\x00\x00\x80\xbf" * (len(good.statistics) // 4)),  # -1
        change(good, outcome=change(outcome, item_id="foreign")),
        change(good, outcome=change(outcome, action="view")),
        change(good, outcome=change(outcome, action="fly")),
        change(good, ts=now + 10**9),
    ]
    return [change(one, example_id=f"{prefix}-{number}") for number, one in enumerate(bad)]


def undecodable() -> tuple[bytes | None, ...]:
    """Bodies on `examples` that are none."""
    return None, b"[", b'{"x":' + DEEP + b"}", b"\xff"


def _body(user: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"user_id": user, **body}).encode()
