"""What stands for a user's id where the id itself is not to stand: HMAC-SHA-256 under a key.

Who has the key and an id finds what is stored under it; who has one of the two alone finds nothing. What is hashed for
rows begins with a byte that no text has, so nothing that anybody sends gives the same hash for another purpose, also
where one key serves several.
"""

from __future__ import annotations

import hashlib
import hmac

_ROW, _WHICH_KEY = b"\xffrow\xff", b"\xffkey\xff"
#: Of a row's name. That any two of a billion users have the same one, and so one row, has a chance of 1e-21; with 8
#: bytes it would be 1 in 37.
_NAME_BYTES = 16
#: Of a key's fingerprint: keys that were taken for each other differ in it, but for 1 in 4 billion.
_FINGERPRINT_BYTES = 4
#: A shorter key is found by trying, and then so are the ids.
LEAST_KEY_LENGTH = 16


class RowNames:
    """Under which names users' rows are stored: their ids or, with a key, pseudonyms."""

    def __init__(self, key: str = "") -> None:
        """
        Args:
            key: the secret; empty where rows are stored under ids.
        """
        self._key = key.encode()
        self.hashed = bool(key)

    def of(self, user: bytes) -> bytes:
        """The name of a user's row: ASCII, so the keys of its lists are told from it as from an id."""
        if not self.hashed:
            return user
        return hmac.digest(self._key, _ROW + user, hashlib.sha256)[:_NAME_BYTES].hex().encode()

    def shown(self, user: bytes) -> str:
        """A user as logs name it."""
        return self.of(user).decode(errors="replace")

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and says nothing of them; empty where rows are stored under ids."""
        if not self.hashed:
            return ""
        return hmac.digest(self._key, _WHICH_KEY, hashlib.sha256)[:_FINGERPRINT_BYTES].hex()


def hashed_user(key: bytes, user_id: str) -> str:
    """HMAC-SHA256 of a user's id, in hex: who has the key and the id finds the receipt, nobody else the id."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()
