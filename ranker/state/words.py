"""What a user typed, as the row keeps it: vectors of the newest texts, never the texts.

A text comes to the fold encoded (`EncodedText`), by the encoder that encodes the items' texts, so that the two can be
compared. The newest few are kept by (ts, key), and of two records of one event the one with the smaller (ts, vector),
one that was not encoded after any that was: so they are the same whatever order the records come in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Interaction

#: Texts of a user that the row keeps.
WORDS_KEPT = 8


class EncodedText(Struct, frozen=True):
    """A text's vector, of int8 numbers, and the name of the encoder that gave it."""

    encoder: str
    vector: bytes


class Words(Struct, frozen=True, array_like=True):
    """A text that a user typed. Fields are appended, never removed or moved."""

    ts: int
    key: int  # `event_key` of the event
    action: int  # the schema's number, or one of `WORD_ACTIONS`
    item: int = 0  # hash of the id of the item that it is about; 0 where it is about none
    encoder: str = ""
    vector: bytes = b""  # int8; empty where it could not be encoded


def typed_text(record: UserInput) -> str | None:
    """The text of an input that is to be encoded; None where there is none."""
    if not isinstance(record, Interaction) or record.text is None or not record.text.strip():
        return None
    return record.text


def quantised(vector: np.ndarray) -> bytes:
    """A vector's direction as int8 numbers, [dim]; empty where it has none.

    Raises:
        ValueError: a number of it is not finite.
    """
    largest = float(np.abs(vector).max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError("the vector of a text holds a number that is not finite")
    return np.round(vector * (127 / largest)).astype(np.int8).tobytes() if largest else b""


def among_words(known: Sequence[Words], new: Words) -> tuple[Words, ...]:
    """The newest words with one more, oldest first; where its event is among them, the one of both that holds."""
    same = next((one for one in known if one.key == new.key), None)
    if same is not None and _strength(same) <= _strength(new):
        return tuple(known)
    others = (one for one in known if one is not same)
    return tuple(sorted((*others, new), key=lambda one: (one.ts, one.key))[-WORDS_KEPT:])


def _strength(words: Words) -> tuple[bool, int, str, bytes]:
    """Of two records of one event the one where this is smaller holds."""
    return not words.vector, words.ts, words.encoder, words.vector
