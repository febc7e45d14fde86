"""What people type, encoded: a text's vector is the text's alone, and one that fails costs itself."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.contracts.records import CandidateList, Interaction
from ranker.registry.words import LogWords, encode_words, no_words, words_of


class Encoder:
    """Says how long a text is; fails on one."""

    name, dim = "lengths", 2

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, 2]."""
        if "broken" in texts:
            raise ValueError("no such text")
        self.texts += texts
        return np.array([[1.0, len(text)] for text in texts], np.float32)


def typed(text: str | None, item: str | None = None) -> Interaction:
    return Interaction(user_id="u", item_id=item, action="search", event_id="e", ts=1, text=text)


def test_one_that_fails_costs_itself() -> None:
    """The others have the vectors that they would have without it."""
    failed: list[Exception] = []
    found = encode_words(Encoder(), ["a", "broken", "ccc"], failed.append)
    assert [one is None for one in found] == [False, True, False]
    assert found[::2] == encode_words(Encoder(), ["a", "ccc"], failed.append)
    assert len(failed) == 1


def test_a_log_is_encoded_as_it_comes() -> None:
    """Each text once; what has none is none, and blank ones are not asked for."""
    encoder = Encoder()
    words = LogWords(encoder)
    assert words(typed("abc")) == words(typed("abc", "item"))
    for record in (typed(None), typed("  "), CandidateList(request_id="r", user_id="u", items=[])):
        assert words(record) is None
    assert encoder.texts == ["abc"]
    with pytest.raises(ValueError, match="no such text"):
        words(typed("broken"))


def test_without_an_encoder_there_are_no_words() -> None:
    """A log is folded all the same."""
    assert words_of(None) is no_words
    assert words_of(None)(typed("abc")) is None
