"""Names of rows: who has the key finds them, nobody else the user, and none is taken for another's."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from ranker.state.codec import list_key, list_prefix, renamed
from ranker.state.pseudonyms import RowNames, hashed_user

KEY = "a key that is long enough"
NAMES = RowNames(KEY)
users = st.text(min_size=1, max_size=40).map(lambda text: text.encode(errors="replace"))


def test_without_a_key_a_row_is_stored_under_the_id() -> None:
    """The very bytes."""
    user = b"u1"
    assert RowNames().of(user) is user
    assert (RowNames().hashed, RowNames().fingerprint) == (False, "")


def test_a_name_is_what_anyone_with_the_key_can_compute() -> None:
    """HMAC-SHA-256, cut to 16 bytes, in hex: other programs, and releases to come, find the row."""
    wanted = hmac.new(KEY.encode(), b"\xffrow\xff" + "zoë".encode(), hashlib.sha256).hexdigest()[:32]
    assert NAMES.of("zoë".encode()) == wanted.encode()
    assert NAMES.shown("zoë".encode()) == wanted
    assert NAMES.fingerprint == hmac.new(KEY.encode(), b"\xffkey\xff", hashlib.sha256).hexdigest()[:8]


@given(users, users)
def test_each_user_has_a_name_and_lists_of_their_own(one: bytes, other: bytes) -> None:
    """No key of one user begins as another's lists do, whatever the ids are."""
    assert NAMES.of(one) == RowNames(KEY).of(one) != RowNames(KEY + "x").of(one)
    if one != other:
        assert NAMES.of(one) != NAMES.of(other)
        assert not NAMES.of(one).startswith(list_prefix(NAMES.of(other)))
        assert not list_key(NAMES.of(one), "r").startswith(list_prefix(NAMES.of(other)))


@given(st.text(max_size=60))
def test_no_receipt_tells_a_name_or_a_fingerprint_also_under_one_key(user_id: str) -> None:
    """What a stranger has hashed for a receipt, by erasing a user of any id, is the name of no row."""
    user = user_id.encode(errors="replace")
    receipt = hashed_user(KEY.encode(), user.decode())
    assert not receipt.startswith(NAMES.of(user).decode())
    assert not receipt.startswith(NAMES.fingerprint)


@given(users, st.text(max_size=20))
def test_a_key_keeps_its_list_when_its_user_is_renamed(user: bytes, request_id: str) -> None:
    """Heads become heads, lists lists of the same request."""
    request_id = request_id.encode(errors="replace").decode()
    assert renamed(user, NAMES.of) == NAMES.of(user)
    assert renamed(list_key(user, request_id), NAMES.of) == list_key(NAMES.of(user), request_id)
