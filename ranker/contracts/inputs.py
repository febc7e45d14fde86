"""What arrives on the input topics of a user, and where each message stands."""

from __future__ import annotations

from typing import NamedTuple

from ranker.contracts.records import CandidateList, Erasure, Interaction, User

UserInput = Interaction | CandidateList | User | Erasure


class Position(NamedTuple):
    """Where a message stands, and its own timestamp in milliseconds."""

    topic: str
    partition: int
    offset: int
    ts: int
