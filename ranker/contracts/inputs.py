"""What arrives on the input topics of a user, and where each message stands."""

from __future__ import annotations

from typing import NamedTuple

from ranker.contracts.records import CandidateList, Erasure, Interaction, User

UserInput = Interaction | CandidateList | User | Erasure


class Position(NamedTuple):
    """Where a message stands, and its own timestamp in milliseconds.

    `topic_id` tells a topic from one of the same name that was deleted; empty where the broker did not say.
    """

    topic: str  # ours
    partition: int
    offset: int
    ts: int
    called: str = ""  # what the broker calls the topic, where that is another name
    topic_id: bytes = b""

    @property
    def broker_topic(self) -> str:
        """What the broker calls the topic: the name for people, who look there."""
        return self.called or self.topic

    @property
    def place(self) -> str:
        """For people: where the message is on the broker."""
        return f"{self.broker_topic}-{self.partition}:{self.offset}"

    @property
    def event_id(self) -> str:
        """What names an event that has no id of its own."""
        return f"{self.broker_topic}-{self.partition}-{self.offset}"
