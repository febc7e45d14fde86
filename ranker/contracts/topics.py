"""Every topic: its name, its key, the record it carries, who writes it, and how the broker cleans it up.

The one home of these facts. Topics are made and checked by them (`streams.kafka.admin`), inputs decoded
(`ranker.contracts.decoding`), and documents written (`ranker.contracts.documents`).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ranker.contracts.records import (
    CandidateList,
    DeadLetter,
    Erasure,
    ErasureReceipt,
    Example,
    Interaction,
    Item,
    ItemVector,
    ModelDelta,
    ModelUpdate,
    Ranking,
    User,
)

CLICKS, VIEWS, INTERACTIONS = "clicks", "views", "interactions"
CANDIDATES, ITEMS, USERS, ERASURES = "candidates", "items", "users", "erasures"
ITEM_VECTORS, RANKINGS, EXAMPLES, DEAD_LETTERS = "item-vectors", "rankings", "examples", "dead-letters"
ERASURE_RECEIPTS = "erasure-receipts"
MODEL_UPDATES, MODEL_DELTAS = "model-updates", "model-deltas"


class Topic(Struct, frozen=True, kw_only=True):
    """A topic, as everyone who touches it must take it."""

    name: str
    key: str  # the field of the record that is its key, or what else the key is
    record: type[Struct]
    direction: Literal["in", "out", "internal", "control"]
    purpose: str
    compacted: bool = False  # else records are deleted after their retention
    single: bool = False  # one partition, since all of it is read in order by everyone
    action: str | None = None  # the action that a record of this topic implies


#: name -> topic
TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            name=CLICKS, key="user_id", record=Interaction, direction="in", action="click",
            purpose="a click on an item; the action is implied",
        ),
        Topic(
            name=VIEWS, key="user_id", record=Interaction, direction="in", action="view",
            purpose="a view of an item; the action is implied",
        ),
        Topic(
            name=INTERACTIONS, key="user_id", record=Interaction, direction="in",
            purpose="any declared action of a user on an item, or a text that a user typed",
        ),
        Topic(
            name=CANDIDATES, key="user_id", record=CandidateList, direction="in",
            purpose="a recall stage's list: one of the user's current lists from now on, and asks for a ranking",
        ),
        Topic(
            name=ITEMS, key="item_id", record=Item, direction="in", compacted=True,
            purpose="the catalogue; a message without a body withdraws the item",
        ),
        Topic(
            name=USERS, key="user_id", record=User, direction="in", compacted=True,
            purpose="attributes of a user",
        ),
        Topic(
            name=ERASURES, key="user_id", record=Erasure, direction="in",
            purpose="forget this user",
        ),
        Topic(
            name=ITEM_VECTORS, key="item_id", record=ItemVector, direction="internal", compacted=True,
            purpose="an item's text, encoded once",
        ),
        Topic(
            name=RANKINGS, key="user_id", record=Ranking, direction="out",
            purpose="one of a user's current lists, re-ranked",
        ),
        Topic(
            name=EXAMPLES, key="user_id", record=Example, direction="internal",
            purpose="what was shown, the state it was ranked from, and what happened",
        ),
        Topic(
            name=MODEL_UPDATES, key="model", record=ModelUpdate, direction="control", compacted=True, single=True,
            purpose="a bundle to serve, to stage or to roll back to",
        ),
        Topic(
            name=MODEL_DELTAS, key="model", record=ModelDelta, direction="control", single=True,
            purpose="changed item rows between bundles",
        ),
        Topic(
            name=DEAD_LETTERS, key="as it came", record=DeadLetter, direction="out",
            purpose="an input that could not be used, and why",
        ),
        Topic(
            name=ERASURE_RECEIPTS, key="user", record=ErasureReceipt, direction="out",
            purpose="that a user was forgotten, and how much was",
        ),
    )
}  # fmt: skip

#: The topics whose records fold into the row of the user who is their key.
USER_INPUTS = tuple(topic.name for topic in TOPICS.values() if topic.direction == "in" and topic.key == "user_id")
#: action -> the topic that implies it
TOPIC_OF_ACTION = {topic.action: topic.name for topic in TOPICS.values() if topic.action is not None}
