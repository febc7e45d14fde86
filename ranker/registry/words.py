"""What users type, encoded by the encoder of the items' texts: the same in a worker and over a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ranker.contracts.inputs import UserInput
from ranker.registry.encoder import TextEncoder
from ranker.state.words import EncodedText, quantised, typed_text

#: Gives the text of an input, encoded; None where it has none, or none can be.
WordsOf = Callable[[UserInput], EncodedText | None]
#: Hears why a text could not be encoded.
Unencoded = Callable[[Exception], None]
_REMEMBERED = 4096  # texts of a log: people type the same


def encode_words(encoder: TextEncoder, texts: Sequence[str], failed: Unencoded) -> list[EncodedText | None]:
    """Each text encoded, together; where that fails one by one, so that each costs itself alone.

    Args:
        encoder: of the items' texts.
        texts: none blank.
        failed: hears of each that the encoder fails on; its place holds None.
    """
    try:
        return [EncodedText(encoder.name, quantised(vector)) for vector in encoder.encode(list(texts))]
    except Exception as error:
        if len(texts) > 1:
            return [one for text in texts for one in encode_words(encoder, [text], failed)]
        failed(error)
        return [None]


def no_words(record: UserInput) -> None:
    """Where there is no encoder: texts count, and say nothing."""


class LogWords:
    """The texts of a log, encoded one by one as they come."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, EncodedText | None] = {}

    def __call__(self, record: UserInput) -> EncodedText | None:
        """The record's text, encoded; None where it has none.

        Raises:
            Exception: the encoder fails on it.
        """
        text = typed_text(record)
        if text is None:
            return None
        if text not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            (self._known[text],) = encode_words(self._encoder, [text], _raised)
        return self._known[text]


def words_of(encoder: TextEncoder | None) -> WordsOf:
    """How the texts of a log are encoded by an encoder, if there is one."""
    return no_words if encoder is None else LogWords(encoder)


def _raised(error: Exception) -> None:
    raise error
