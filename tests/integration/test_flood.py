"""Many inputs of one user at once: the others are ranked meanwhile, and no example is lost."""

from __future__ import annotations

import json

import msgspec

from ranker.contracts.clock import now_ms
from ranker.contracts.records import Example
from tests.support.installation import Installation

FLOOD, OTHERS, ITEMS = 5000, 40, 100


def test_others_do_not_wait_for_a_flood(installation: Installation) -> None:
    """5,000 clicks of one user, and in their midst a click of each of the others: these are ranked before the flood's
    examples are all made, of which there is one a click in the end, and the flood's last ranking knows of all of them.
    """
    now, producer = now_ms(), installation.producer()
    others = [f"other-{number}" for number in range(OTHERS)]

    def send(topic: str, user: str, **record: object) -> None:
        producer.produce(topic, json.dumps({"user_id": user, **record}), user)
        producer.poll(0)

    shown = [{"item_id": f"item-{number}"} for number in range(ITEMS)]
    for user in ("hot", *others):
        send("candidates", user, request_id=f"{user}-list", items=shown, ts=now)
    assert producer.flush(30) == 0
    installation.all_handled()
    for number in range(FLOOD):
        send("clicks", "hot", item_id=f"item-{number % ITEMS}", event_id=f"hot-{number}", ts=now + 1)
        for user in others if number == FLOOD // 2 else ():
            send("clicks", user, item_id="item-1", event_id=f"{user}-1", ts=now + 1)
    assert producer.flush(60) == 0
    installation.all_handled()

    clicked = {one.cause.event_id for one in installation.rankings()}
    assert {f"{user}-1" for user in others} <= clicked
    examples = [message for message in installation.read("examples") if message.key() == b"hot"]
    drawn = [msgspec.json.decode(message.value(), type=Example).outcome for message in examples]
    assert {outcome.event_id for outcome in drawn if outcome} == {f"hot-{number}" for number in range(FLOOD)}
    assert len(drawn) == FLOOD
    # One process sends both, one after the other, so their times say in which order.
    ranked = sorted(
        message.timestamp()[1] for message in installation.read("rankings")
        if (msgspec.json.decode(message.value())["cause"]["event_id"] or "").startswith("other-")
    )  # fmt: skip
    made = sorted(message.timestamp()[1] for message in examples)
    assert ranked[-1] < made[-1], "the others' rankings came after all of the flood's examples"
    last = max((one for one in installation.rankings() if one.user_id == "hot"), key=lambda one: one.revision)
    assert last.revision == FLOOD + 1
