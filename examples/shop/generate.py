"""A small made-up shop: its products, its customers, the lists they were shown, and what they did.

    python examples/shop/generate.py --out DIR

Nothing here is anybody's data: a seeded generator draws it all, so every run writes the same files. Each customer likes
two of eight kinds of product and has a price in mind; lists are shown by popularity with some chance, so that there is
something to learn which the shown order does not know.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

KINDS = {
    "coffee": ["espresso beans", "filter coffee", "hand grinder", "moka pot", "milk frother", "travel mug"],
    "tea": ["green tea", "black tea", "teapot", "tea strainer", "matcha whisk", "kettle"],
    "kitchen": ["chef's knife", "cutting board", "cast iron pan", "mixing bowl", "apron", "pepper mill"],
    "lighting": ["desk lamp", "floor lamp", "reading light", "string of lights", "lantern", "pendant lamp"],
    "garden": ["watering can", "pruning shears", "seed box", "plant pot", "garden gloves", "compost bin"],
    "cycling": ["bicycle bell", "pannier", "tyre pump", "rear light", "cycling cap", "bottle cage"],
    "camping": ["two-person tent", "sleeping bag", "gas stove", "head torch", "folding chair", "water filter"],
    "stationery": ["fountain pen", "notebook", "ink bottle", "pencil case", "desk pad", "letter opener"],
}
MATERIALS = ["steel", "oak", "linen", "recycled", "enamel"]
CUSTOMERS, VISITS, LENGTH = 300, 2_400, 12
START = datetime(2026, 3, 2, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Product:
    """Something that the shop sells."""

    sku: str
    title: str
    kind: str
    price: float
    fame: float  # what the shop's own order knows


@dataclass(frozen=True)
class Customer:
    """Somebody with a taste that no file says."""

    visitor: str
    kinds: tuple[str, str]
    price: float

    def likes(self, product: Product) -> float:
        """How much, from about -1 to 2; a price of twice, or half, what they have in mind costs .7."""
        return 2.0 * (product.kind in self.kinds) - abs(math.log(product.price / self.price))


def products(chance: random.Random) -> list[Product]:
    """One of each kind, noun and material."""
    found: list[Product] = []
    for kind, nouns in KINDS.items():
        for noun in nouns:
            for material in MATERIALS:
                price = round(8 * math.exp(chance.gauss(1.0, 0.8)), 2)
                found.append(Product(f"sku-{len(found):03}", f"{material} {noun}", kind, price, chance.random()))
    return found


def customers(chance: random.Random) -> list[Customer]:
    """Each with two kinds and a price."""
    found: list[Customer] = []
    for number in range(CUSTOMERS):
        one, other = chance.sample(sorted(KINDS), 2)
        found.append(Customer(f"visitor-{number:03}", (one, other), 8 * math.exp(chance.gauss(1.0, 0.5))))
    return found


def visit(shown: list[Product], who: Customer, chance: random.Random) -> Iterable[tuple[str, Product]]:
    """What somebody does with a list: looks at one or two, clicks the one they like best, and may buy it."""
    worth = {product: who.likes(product) - 0.05 * at + chance.gauss(0, 0.4) for at, product in enumerate(shown)}
    best = sorted(shown, key=lambda product: -worth[product])
    for product in best[1 : 1 + chance.randrange(3)]:
        yield "view", product
    yield "click", best[0]
    if chance.random() < 0.3:
        yield "addtocart", best[0]
        if chance.random() < 0.5:
            yield "order", best[0]


def write(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def generate(out: Path, seed: int) -> None:
    """Write the four files of the shop into a folder."""
    chance = random.Random(seed)
    sold, people = products(chance), customers(chance)
    lists: list[list[object]] = []
    events: list[list[object]] = []
    now = START
    for number in range(VISITS):
        now += timedelta(seconds=chance.randrange(60, 600))
        who = chance.choice(people)
        shown = sorted(chance.sample(sold, LENGTH), key=lambda product: -product.fame - chance.random())
        skus, prices = "|".join(p.sku for p in shown), "|".join(str(p.price) for p in shown)
        device = chance.choice(["desktop", "mobile"])
        lists.append([who.visitor, f"search-{number}", now.isoformat(), skus, prices, device])
        at = now
        for action, product in visit(shown, who, chance):
            at += timedelta(seconds=chance.randrange(3, 20))
            events.append([who.visitor, f"search-{number}", at.isoformat(), action, product.sku])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "items.csv", ["sku", "title", "category", "price"], ([p.sku, p.title, p.kind, p.price] for p in sold))
    write(out / "candidates.csv", ["visitor", "search", "time", "shown", "prices", "device"], lists)
    write(out / "interactions.csv", ["visitor", "search", "time", "event", "sku"], events)
    write(out / "users.csv", ["visitor", "tier"], ([who.visitor, chance.choice(["new", "regular"])] for who in people))
    print(f"{out}: {len(sold)} products, {len(people)} customers, {len(lists)} lists, {len(events)} events, made up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a made-up shop as CSV files.")
    parser.add_argument("--out", type=Path, required=True, help="the folder")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    generate(given.out, given.seed)
