"""The whole check: what was sent and read back, through every function of the checker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from liverank.faults.checker.rankings import (
    ListName,
    RankOffline,
    check_held,
    check_knowledge,
    check_scores,
    current_lists,
)
from liverank.faults.checker.records import LearnedState, check_examples, check_learned, check_letters
from liverank.faults.checker.state import check_rows, check_sent
from liverank.faults.checker.violations import Violation
from liverank.faults.load.inputs import Recorded
from liverank.faults.load.workload import CURIOUS, user_kind
from liverank.faults.readback import ReadBack
from online_learning.trainer.checkpoint import TrainerState
from online_learning.trainer.state import refused_of


def check_state_and_rankings(back: ReadBack, rank: RankOffline) -> tuple[list[Violation], int]:
    """Rows and rankings against the offline fold and ranking of the inputs that were read back.

    Returns:
        What is wrong, and how many lists were compared by score.
    """
    found: list[Violation] = []
    for folded in back.folded:
        found += check_rows(back.stored, back.named(folded))
    listed = current_lists((user, row) for (_, user), row in back.folded[0].items())
    found += check_held(listed, back.held_rankings)
    found += check_knowledge(back.rankings, back.inputs, back.erased.__contains__)
    compared: list[ListName] = []
    # Of lists of items that change all the while nobody knows what they were ranked by.
    fixed = {name: row for name, row in listed.items() if user_kind(name[0]) != CURIOUS}
    for one in check_scores(fixed, back.held_rankings, rank):
        if isinstance(one, Violation):
            found.append(one)
        else:
            compared.append(one)
    return found, len(compared)


def check_records(back: ReadBack, recorded: Iterable[Recorded]) -> list[Violation]:
    """Inputs, dead letters and examples against what was sent and acknowledged."""
    sent = list(recorded)
    owed = [one.planned.example for one in sent if one.place is not None and one.planned.example is not None]
    return [
        *check_sent(sent, back.held),
        *check_letters(back.letters, back.deserved),
        *check_examples({name: back.examples[name] for name in back.examples if name not in back.doubtful}, owed,
                        back.events),
    ]  # fmt: skip


def check_trainer(back: ReadBack, state: TrainerState | None) -> list[Violation]:
    """What a trainer has learned against the examples that were read back."""
    if state is None:
        return [Violation("not-learned", "the trainer has no checkpoint")]
    facts = state.facts
    learned = LearnedState(
        facts["trained"], frozenset(state.arrays["known"].tolist()), frozenset(refused_of(state)), facts["offsets"]
    )
    erased = {name for name, seen in back.examples.items() if any(one.user_id in back.erased for one in seen)}
    return list(check_learned(learned, back.example_lines, back.doubtful, erased))


def amounts_of(back: ReadBack) -> dict[str, Any]:
    """How much was read back."""
    return {
        "users": back.users,
        "inputs": len(back.held),
        "rankings": back.ranked,
        "repeated": back.repeated,
        "dead_letters": len(back.letters),
        "examples": len(back.examples),
    }
