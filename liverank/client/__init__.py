"""For applications: send events, lists and items, and get rankings; over Kafka itself, or over `liverank gateway`.

Needs nothing but what `pip install liverank` brings. docs/client.md shows how it is used.
"""

from liverank.client.clients import AsyncClient, Client, RankedList
from liverank.client.errors import Refused, Unavailable
from liverank.client.groups import GroupItem, GroupRanking, GroupRule
from liverank.client.messages import Accepted
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import (
    Candidate,
    CandidateList,
    Erasure,
    Interaction,
    Item,
    RankedItem,
    Ranking,
    RankReason,
    User,
)

__all__ = [
    "Accepted", "AsyncClient", "Candidate", "CandidateList", "Client", "Erasure", "GroupItem", "GroupRanking",
    "GroupRule", "Interaction", "InvalidRecord", "Item", "LiverankError", "RankReason", "RankedItem", "RankedList",
    "Ranking", "Refused", "Unavailable", "User",
]  # fmt: skip
