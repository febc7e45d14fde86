"""Reasons as a person reads them, in English: each says what was measured, and no more."""

from __future__ import annotations

from ranker.features.leaving_out import CHOSEN_OFTEN, PUBLISHED

#: How an event's item is related to another, as the model is told.
SAME_ITEM, SAME_CATEGORY, SIMILAR_TEXT, CHOSEN_TOGETHER, DISTANCE = (
    "same item", "same category", "similar text", "chosen together", "distance",
)  # fmt: skip
_DID = {
    "view": "looked at", "click": "clicked on", "cart": "put into the cart", "purchase": "bought", "like": "liked",
    "dislike": "disliked", "skip": "passed over", "search": "searched for",
}  # fmt: skip
_KNOWN = {CHOSEN_OFTEN: "how often it is chosen", PUBLISHED: "how new it is"}


def span_in_words(seconds: float) -> str:
    """A time as somebody would say it: `20 s`, `3 min`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _since(seconds: float) -> str:
    return f"{span_in_words(seconds)} ago" if seconds >= 1 else "just now"


def event_in_words(action: str, item: str | None, seconds: float, relation: str | None, below: int) -> str:
    """What somebody did, by how it has to do with the item of which it is said.

    Args:
        action: of the event.
        item: the id of the event's item, where it is known; it stands between typographic quotes, so that who shows the
            words may put the item's title in its place.
        seconds: since then.
        relation: of the event's item to this one; None where there is none.
        below: places by which this item came below that one in the list, where they are related by that.
    """
    did, since = _DID.get(action, f"had as {action}"), _since(seconds)
    named = "something" if item is None else f"\N{LEFT DOUBLE QUOTATION MARK}{item}\N{RIGHT DOUBLE QUOTATION MARK}"
    what = f"{named}, which you {did} {since}"
    match relation:
        case "same item":
            return f"you {did} it {since}"
        case "same category" | "similar text":
            return f"like {what}"
        case "chosen together":
            return f"often chosen with {what}"
        case "distance" if below:
            return f"{abs(below)} {'below' if below > 0 else 'above'} {what}"
    return f"you {did} {named} {since}"


def typed_in_words(action: str, seconds: float) -> str:
    """What somebody wrote so long ago; the text itself is kept nowhere."""
    said = {"search": "searched for", "question": "asked"}.get(action, "wrote")
    return f"what you {said} {_since(seconds)}"


def known_in_words(kind: str, name: str) -> str:
    """What is known of the item, the list or the person."""
    match kind:
        case "summary":
            return "all that you have done so far"
        case "attribute":
            return f"your {name}"
        case "context":
            return f"{name} of this list"
    return _KNOWN.get(name, f"its {name}")


def moved_in_words(rank: int, without: int, by: str) -> str:
    """That something else than the score moved the item."""
    return f"moved {'up' if rank < without else 'down'} from place {without} {by}"


def weighed(words: str, effect: float) -> str:
    """The same, with on which side it is."""
    return words if effect >= 0 else f"against it: {words}"
