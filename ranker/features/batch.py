"""Several users' inputs as the padded arrays that the score graph and the trainer read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.features.user import UserInputs
from ranker.items.tables import ItemTables


def padded(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Arrays [n, ...] of one kind, zero-padded on the right to [len(arrays), length, ...]. One that needs no padding is
    not copied.
    """
    if len(arrays) == 1 and len(arrays[0]) == length:
        return arrays[0][None]
    out = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    for at, array in enumerate(arrays):
        out[at, : len(array)] = array
    return out


def list_arrays(users: Sequence[UserInputs], tables: ItemTables, events: int) -> dict[str, np.ndarray]:
    """The score graph's inputs by name, but for item vectors and encodings.

    Args:
        users: B users; C is the longest of their lists.
        tables: gives categories and reduced texts.
        events: L, at least the longest of their histories.

    Returns:
        Arrays by the graph's names, and `candidates` [B, C] and `history` [B, L], the catalogue indexes.
    """
    lists = max(len(user.candidates) for user in users)
    candidates, history = padded([u.candidates for u in users], lists), padded([u.history for u in users], events)
    texts = max(1, *(len(user.words) for user in users))  # a graph has no axis of length 0
    covisit = users[0].covisit[None]
    if covisit.shape != (len(users), lists, events):
        covisit = np.zeros((len(users), lists, events), np.float32)
        for at, user in enumerate(users):
            covisit[at, : len(user.candidates), : len(user.history)] = user.covisit
    return {
        "candidates": candidates,
        "history": history,
        "cand_feat": padded([u.features for u in users], lists),
        "cand_item": padded([u.cand_item for u in users], lists),
        "cand_cat": tables.catalog.categories[candidates],
        "cand_pos": np.arange(lists)[None].repeat(len(users), axis=0),
        "cand_text": tables.texts[candidates],
        "cand_len": np.array([len(u.candidates) for u in users], np.int64),
        "covisit": covisit,
        "context": np.stack([u.context for u in users]),
        "hist_item": padded([u.hist_item for u in users], events),
        "hist_action": padded([u.action for u in users], events),
        "hist_age": padded([u.age for u in users], events),
        "hist_cat": tables.catalog.categories[history],
        "hist_pos": padded([u.hist_pos for u in users], events),
        "hist_text": tables.texts[history],
        "hist_len": np.array([len(u.history) for u in users], np.int64),
        "said": _said(users, lists, texts),
        "words": padded([u.words for u in users], texts),
    }


def _said(users: Sequence[UserInputs], lists: int, texts: int) -> np.ndarray:
    said = np.zeros((len(users), lists, texts), np.float32)
    for at, user in enumerate(users):
        if user.said.size:
            said[at, : len(user.candidates), : len(user.words)] = user.said
    return said
