"""The numbers that a model reads of a candidate and of the moment, by name and in order."""

from __future__ import annotations

from ranker.contracts.schema import FeatureSchema

#: Features that every candidate has, before the schema's own.
BUILT_IN = (
    "reciprocal_position", "log_position", "relative_position", "log_shown", "log_chosen", "log_touched",
    "choice_rate", "touch_rate", "long_term", "log_age_days", "has_age",
)  # fmt: skip
#: How far a declared feature is from that of the list's items which the user touched: the last, and their mean.
FROM_TOUCHED = ("from-last", "off-last", "from-mean", "off-mean")
#: Numbers about the user and the moment, before the schema's context fields.
MOMENT = ("log_events", "log_idle_seconds", "log_list_length", "last_in_list", "share_touched", "log_since_positive")

#: What is known of a text that a user typed: what is left of it with every later text, and after a time, an hour of
#: which halves it, or five minutes; or a day, whatever came later; the first, and less with every event since; and the
#: first, where the text is about an item.
WORD_FEATURES = ("hour", "five_minutes", "day", "events_since", "about_item")


def feature_names(schema: FeatureSchema) -> tuple[str, ...]:
    """Names of the candidate features, in order: their number is the model's F."""
    declared = [f"{f.name}:{way}" for f in schema.candidate_features for way in (*f.normalise, "missing")]
    touched = [f"{f.name}:{form}" for f in schema.candidate_features for form in FROM_TOUCHED]
    return (*BUILT_IN, *declared, *touched, *(f"item:{name}" for name in schema.item_numeric))


def context_names(schema: FeatureSchema) -> tuple[str, ...]:
    """Names of the context numbers, in order: their number is the model's U."""
    declared = [f"{c.name}={value}" for c in schema.context for value in (c.values or ("number",))]
    return (*MOMENT, *declared)
