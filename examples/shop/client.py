"""The shop's site, as far as liverank sees it: it sends a list and clicks, and shows each ranking that comes back.

    python examples/shop/client.py DIR --brokers 127.0.0.1:9092 --likes coffee

Kafka and JSON are all it needs: the records are those of docs/topics.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer

LENGTH, LIKED, WAIT_S = 10, 3, 60.0


class Site:
    """One visitor's page."""

    def __init__(self, brokers: str) -> None:
        self.visitor = f"visitor-{uuid.uuid4().hex[:8]}"
        self.producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.rankings = Consumer(
            {"bootstrap.servers": brokers, "group.id": self.visitor, "auto.offset.reset": "earliest"}
        )
        self.rankings.subscribe(["rankings"])

    def send(self, topic: str, **record: object) -> None:
        """Send a record of this visitor; the key decides on the partition, and must be the user's id."""
        self.producer.produce(topic, key=self.visitor, value=json.dumps({"user_id": self.visitor, **record}))
        self.producer.flush(10)

    def ranking(self, revision: int) -> list[str]:
        """The ids of this visitor's list, best first, once a ranking of that revision is there."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            message = self.rankings.poll(0.1)
            if message is None or message.error() is not None or message.key() != self.visitor.encode():
                continue
            ranking = json.loads(message.value())
            if ranking["revision"] >= revision:
                return [line["item_id"] for line in ranking["items"]]
        sys.exit(f"no ranking {revision} of {self.visitor} within {WAIT_S:.0f} s: is `liverank up` still running?")


def main() -> None:
    """Show a list, click on what the visitor likes, and show what becomes of the list."""
    parser = argparse.ArgumentParser(description="Send a list and clicks, and show the rankings.")
    parser.add_argument("folder", type=Path, help="the shop's folder")
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--likes", default="coffee", help="a category of the shop")
    given = parser.parse_args()
    with (given.folder / "items.csv").open(newline="", encoding="utf-8") as file:
        items = {row["sku"]: row for row in csv.DictReader(file)}
    liked = [sku for sku, item in items.items() if item["category"] == given.likes]
    if len(liked) <= LIKED:
        sys.exit(
            f"the shop sells no {given.likes}; it sells {', '.join(sorted({i['category'] for i in items.values()}))}"
        )
    chance = random.Random(1)
    others = chance.sample([sku for sku in items if sku not in liked], LENGTH - LIKED)
    shown = others + liked[:LIKED]  # what they like comes last

    site = Site(given.brokers)
    site.send(
        "candidates",
        request_id="page-1",
        items=[{"item_id": sku, "features": {"price": float(items[sku]["price"])}} for sku in shown],
        context={"device": "mobile"},
    )

    def places(order: list[str]) -> str:
        return ", ".join(str(order.index(sku) + 1) for sku in liked[:LIKED])

    print(f"{given.likes}, as shown: {places(shown)}")
    print(f"{given.likes}, before any click: {places(site.ranking(1))}")
    order: list[str] = []
    for number, sku in enumerate(liked[LIKED : LIKED + 2], start=1):  # found elsewhere on the site
        site.send("clicks", item_id=sku)
        order = site.ranking(1 + number)
        print(f"{given.likes}, after a click on {items[sku]['title']!r}: {places(order)}")
    for at, sku in enumerate(order, start=1):
        print(f"{at:>3}  {items[sku]['title']} ({items[sku]['category']}, {items[sku]['price']})")
    site.rankings.close()


if __name__ == "__main__":
    main()
