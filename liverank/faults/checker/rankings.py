"""The highest (epoch, revision) of each list is right, and every ranking says truly what it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from liverank.faults.checker.violations import Violation
from ranker.contracts.records import Ranking
from ranker.state.row import UserRow

#: User and request.
ListName = tuple[str, str]
#: Partition and user.
UserPlace = tuple[int, str]
#: Item -> score.
Scores = Mapping[str, float]
#: Gives what a version makes of rows of one list each; None where that cannot be said offline.
RankOffline = Callable[[str, Sequence[tuple[str, UserRow]]], Sequence[Scores] | None]

_RANKED_AT_ONCE, _TOLERANCE = 32, 1e-4


class HeldRanking(Struct, frozen=True):
    """What a consumer keeps of a list."""

    epoch: int
    revision: int
    applied: Mapping[str, int]
    model: str
    delta: int
    scores: Scores

    @classmethod
    def of(cls, ranking: Ranking) -> HeldRanking:
        """What is kept of a ranking."""
        scores = {item.item_id: item.score for item in ranking.items if item.score is not None}
        return cls(ranking.epoch, ranking.revision, ranking.applied, ranking.model, ranking.delta, scores)


class KnownInput(Struct, frozen=True):
    """An input of a user's, as far as its rankings tell of it."""

    topic: str
    offset: int
    name: tuple[str, str, str] | None = None  # of an event that has an id of its own: repeats have the same


def hold(held: dict[ListName, HeldRanking], ranking: Ranking) -> None:
    """Take in a ranking as a consumer does: the highest (epoch, revision) stays, of two that are equal the later."""
    name = ranking.user_id, ranking.request_id
    before = held.get(name)
    if before is None or (ranking.epoch, ranking.revision) >= (before.epoch, before.revision):
        held[name] = HeldRanking.of(ranking)


def current_lists(rows: Iterable[tuple[bytes, UserRow]]) -> dict[ListName, UserRow]:
    """Each list that is ranked, with its user's row as a ranking of it sees it."""
    return {(user.decode(), listed.request_id): row.of(listed) for user, row in rows for listed in row.current}


def check_held(listed: Mapping[ListName, UserRow], held: Mapping[ListName, HeldRanking]) -> Iterator[Violation]:
    """Each current list has a ranking that knows of every input of its user.

    Args:
        listed: the lists, see `current_lists`.
        held: what a consumer keeps.
    """
    for name, row in listed.items():
        ranking = held.get(name)
        if ranking is None:
            yield Violation("ranking-missing", f"list {name[1]} of {name[0]} has none")
        elif (ranking.revision, ranking.applied) != (row.revision, row.applied):
            yield Violation(
                "ranking-behind",
                f"the last of list {name[1]} of {name[0]} is revision {ranking.revision} of {dict(ranking.applied)} "
                f"instead of {row.revision} of {row.applied}",
            )


def check_scores(
    listed: Mapping[ListName, UserRow], held: Mapping[ListName, HeldRanking], rank: RankOffline
) -> Iterator[Violation | ListName]:
    """Each list's last ranking is the one that its version makes of the same row offline.

    Args:
        listed: the lists.
        held: what a consumer keeps.
        rank: ranks offline. Of a version that has taken deltas nothing is said.

    Yields:
        What differs, and the name of each list that was compared.
    """
    by_version: dict[str, list[ListName]] = {}
    for name in sorted(listed):
        if name in held and not held[name].delta:
            by_version.setdefault(held[name].model, []).append(name)
    for version, names in by_version.items():
        for start in range(0, len(names), _RANKED_AT_ONCE):
            some = names[start : start + _RANKED_AT_ONCE]
            expected = rank(version, [(name[0], listed[name]) for name in some])
            for name, scores in zip(some, expected or (), strict=expected is not None):
                yield name
                found = held[name].scores
                if not _close(found, scores):
                    what = f"{dict(found)} instead of {dict(scores)}"
                    yield Violation("ranking-differs", f"list {name[1]} of {name[0]} by {version}: {what}")


def check_knowledge(
    rankings: Iterable[Ranking], inputs: Mapping[UserPlace, Sequence[KnownInput]], erased: Callable[[str], bool]
) -> Iterator[Violation]:
    """`applied` names inputs of the ranking's own user, and `revision` counts those that it knows of.

    So of two rankings of one list and epoch the one with the higher revision knows of more inputs.

    Args:
        rankings: any.
        inputs: by partition and user, those that were not refused.
        erased: whether a user was: a repeat of what was erased counts.
    """
    for ranking in rankings:
        name = f"{ranking.ranking_id} ({ranking.epoch})"
        own = inputs.get((ranking.cause.partition, ranking.user_id), ())
        foreign = dict(ranking.applied)
        unnamed, names = 0, set()
        repeats = False
        for one in own:
            last = ranking.applied.get(one.topic, -1)
            if one.offset == last:
                foreign.pop(one.topic, None)
            if one.offset <= last:
                repeats |= one.name in names
                unnamed += one.name is None
                names.add(one.name)
        counted = unnamed + len(names - {None})
        if foreign:
            yield Violation("ranking-foreign", f"{name} applies {foreign}, which are none of its user's inputs")
        elif ranking.revision != counted and not (repeats and erased(ranking.user_id)):
            yield Violation("ranking-miscounted", f"{name} knows of {counted} inputs: {ranking.applied}")


def _close(found: Scores, wanted: Scores) -> bool:
    if set(found) != set(wanted):
        return False
    return all(abs(found[item] - score) <= _TOLERANCE * max(1.0, abs(score)) for item, score in wanted.items())
