"""A person's own ranker beside liverank: imported by name, asked as the others are, and named where it breaks."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.evaluation.list_peers import AskedList, ListRanker
from ranker.contracts.errors import LiverankError

_Given = TypeVar("_Given")
_INSTALLED = (sys.prefix, sys.base_prefix, "<frozen")  # where no line of the person's own is


class PeerError(LiverankError):
    """A person's own ranker cannot be imported, raises, or gives something else than a number an item."""


def own_peer(name: str) -> ListRanker:
    """The ranker that `MODULE:CLASS` names; a module of the current folder is found too.

    Raises:
        PeerError: there is none, it cannot be made, or it lacks `rank` or `learn`.
    """
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise PeerError(f"{name!r} names no peer; write it as MODULE:CLASS, such as my_rankers:Cheapest")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise PeerError(f"the peer {name} cannot be imported: {_place(error)}") from error
        raise PeerError(
            f"the peer {name}: there is no module {error.name!r} in {Path.cwd()} or on the Python path"
        ) from error
    except Exception as error:
        raise PeerError(f"the peer {name} cannot be imported: {_place(error)}") from error
    made = getattr(module, class_name, None)
    if not isinstance(made, type):
        classes = ", ".join(key for key, value in vars(module).items() if isinstance(value, type)) or "none"
        raise PeerError(f"the peer {name}: {module_name} has no class {class_name!r}; it has {classes}")
    peer = _called(f"the peer {name} cannot be made without arguments", made)
    for method in ("rank", "learn"):
        if not callable(getattr(peer, method, None)):
            raise PeerError(
                f"the peer {name} has no method {method!r}; it must have rank(asked) and learn(record): docs/data.md"
            )
    return CheckedPeer(name, peer)


class CheckedPeer:
    """A ranker of which nothing is known yet: what it gives is looked at, what it raises names the place."""

    def __init__(self, name: str, peer: ListRanker) -> None:
        self._name, self._peer = name, peer

    def rank(self, asked: AskedList) -> np.ndarray:
        """float64 [items].

        Raises:
            PeerError: it raises, or gives no finite number an item.
        """
        given = _called(f"the peer {self._name} fails in rank()", lambda: self._peer.rank(asked))
        wanted = f"a list of {len(asked.items)} items wants as many finite numbers"
        try:
            scores = np.asarray(given, np.float64)
        except (TypeError, ValueError) as error:
            raise PeerError(f"the peer {self._name}: rank() gave {given!r:.100}; {wanted}") from error
        if scores.shape != (len(asked.items),):
            raise PeerError(f"the peer {self._name}: rank() gave an array of the shape {scores.shape}; {wanted}")
        if not np.isfinite(scores).all():
            raise PeerError(f"the peer {self._name}: rank() gave {scores[~np.isfinite(scores)][0]}; {wanted}")
        return scores

    def learn(self, record: LogRecord) -> None:
        """Hands the record on.

        Raises:
            PeerError: it raises.
        """
        _called(f"the peer {self._name} fails in learn()", lambda: self._peer.learn(record))


def _called(failing: str, call: Callable[[], _Given]) -> _Given:
    try:
        return call()
    except Exception as error:
        raise PeerError(f"{failing}: {_place(error)}") from error


def _place(error: BaseException) -> str:
    """What was raised, and the innermost line of the person's own."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith(_INSTALLED)]
    where = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    return f"{where}{type(error).__name__}: {error}"
