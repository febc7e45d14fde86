"""Ids as numbers: items, events and categories are 64-bit hashes of their names in rows, tables and graphs."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=1 << 17)  # some 25 MB
def hash_id(name: str) -> int:
    """Signed 64-bit hash of an id; never 0, which stands for none."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
