"""ONNX Runtime with a memory: a user's encoding is kept and extended by the new events alone."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

from ranker.contracts.errors import BundleError
from ranker.features.batch import list_arrays, padded
from ranker.features.user import UserInputs
from ranker.items.tables import ItemTables
from ranker.serving.options import ServingOptions

log = logging.getLogger(__name__)

# One arena for what graphs need while they run on the CPU, of all sessions of a process; weights are not in it. By
# default each session has its own, which stays as large as its largest batch: memory that comes and goes with every
# version, lies beside that of the version before, and is cold when a version begins to serve.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
    ort.OrtArenaCfg(
        {"max_mem": 0, "arena_extend_strategy": -1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ),
)


#: Candidates, padding included, that a CPU scores in one call. More at once cost as much each, and take memory in
#: which the next call finds nothing; far fewer pay for the call.
_AT_ONCE = 1000


class Encoding:
    """A user's attention keys, values and event encodings, filled up to `length`."""

    __slots__ = ("clock", "events", "h", "k", "length", "v")

    def __init__(self, layers: int, window: int, width: int) -> None:
        self.k = np.zeros((layers, window, width), np.float32)
        self.v = np.zeros((layers, window, width), np.float32)
        self.h = np.zeros((window, width), np.float32)
        self.events = b""  # exactly the events that are encoded: a new event is one that follows them
        self.length = 0
        self.clock = 0  # of the item tables, when it was encoded

    @staticmethod
    def size(layers: int, window: int, width: int) -> int:
        """Bytes of one encoding."""
        return 4 * window * width * (2 * layers + 1)


def providers(wanted: str) -> list[str]:
    """ONNX Runtime's execution providers: CUDA where it is wanted and a driver is there, then the CPU."""
    cuda = wanted != "cpu" and "CUDAExecutionProvider" in ort.get_available_providers()
    if cuda:
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            cuda = False
    if wanted == "cuda" and not cuda:
        log.warning("no CUDA device or driver is found here: ranking on the CPU")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]


def open_session(path: Path, wanted: str, threads: int) -> ort.InferenceSession:
    """A session on the best provider that works; a CUDA that fails to start is one warning, then the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    chosen = providers(wanted)
    session = ort.InferenceSession(str(path), options, providers=chosen)
    if chosen[0] != session.get_providers()[0]:
        log.warning("%s failed to start: ranking on the CPU", chosen[0])
    return session


class Graphs(NamedTuple):
    """The two graphs of a bundle, opened."""

    extend: ort.InferenceSession
    score: ort.InferenceSession


def open_graphs(folder: Path, options: ServingOptions, rest: Callable[[], None] = lambda: None) -> Graphs:
    """Both graphs of a bundle's folder: some 20 ms of a core, and a rest after each.

    Raises:
        BundleError: one does not load.
    """
    opened = []
    for name in Graphs._fields:
        path = folder / f"{name}.onnx"
        try:
            opened.append(open_session(path, options.provider, options.threads))
        except Exception as error:
            raise BundleError(f"{path} does not load: {error}") from error
        rest()
    return Graphs(*opened)


class OnnxScorer:
    """The two graphs of one bundle, and a bounded, least recently used cache of encodings."""

    def __init__(self, graphs: Graphs, config: Mapping[str, Any], tables: ItemTables, options: ServingOptions) -> None:
        self.extend, self.score_graph = graphs
        # What a model has no use for (list lengths without a list block, say) is not an input of its graph.
        self._extend_inputs = [given.name for given in self.extend.get_inputs()]
        self._score_inputs = [given.name for given in self.score_graph.get_inputs()]
        self.layers, self.window, self.width = config["layers"], config["window"], config["d"]
        self.at_once = _AT_ONCE if self.score_graph.get_providers()[0] == "CPUExecutionProvider" else sys.maxsize
        self.tables = tables
        self.limit(options.budget.encodings)
        self.cache: OrderedDict[str, Encoding] = OrderedDict()
        self.rebuilt = self.extended = 0  # users encoded from the row, and by the new events alone

    def limit(self, most: int) -> None:
        """Keep encodings of so many bytes from the next call on."""
        self.capacity = max(1, most // Encoding.size(self.layers, self.window, self.width))

    def score(self, users: Sequence[tuple[str, UserInputs]]) -> list[np.ndarray]:
        """Logits float32 [C, A] of each user's candidates.

        Args:
            users: user ids with their inputs. A user comes once for each list, with the same events.
        """
        found: list[np.ndarray] = []
        for part in self._parts(users):
            inputs = [one for _, one in part]
            logits = self.run(self.feed(inputs, self.encode(part)))
            found += [logits[at, : len(one.candidates)] for at, one in enumerate(inputs)]
        return found

    def _parts(self, users: Sequence[tuple[str, UserInputs]]) -> Iterator[list[tuple[str, UserInputs]]]:
        """The users in their order, as many together as are scored at once, and one at least."""
        part: list[tuple[str, UserInputs]] = []
        longest = 0
        for one in users:
            longest = max(longest, len(one[1].candidates))
            if part and longest * (len(part) + 1) > self.at_once:
                yield part
                part, longest = [], len(one[1].candidates)
            part.append(one)
        if part:
            yield part

    def encode_anew(self, users: Sequence[UserInputs]) -> list[Encoding]:
        """Encodings of users of whom nothing is kept and nothing will be: people who might have been.

        Args:
            users: their inputs.
        """
        encodings = [Encoding(self.layers, self.window, self.width) for _ in users]
        acted = [(one, encoding) for one, encoding in zip(users, encodings, strict=True) if len(one.history)]
        if acted:
            self._extend(acted)
        return encodings

    def feed(self, users: Sequence[UserInputs], encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        """What the score graph reads of users, by name; it may hold more than that graph asks for.

        Args:
            users: B of them.
            encodings: of their histories.
        """
        events = max(1, *(encoding.length for encoding in encodings))
        feed = list_arrays(users, self.tables, events)
        feed["cand_vec"] = self.tables.vectors[feed["candidates"]]
        feed["h"] = padded([encoding.h[: encoding.length] for encoding in encodings], events)
        return feed

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits float32 [B, C, A] of what `feed` gave."""
        logits: np.ndarray
        (logits,) = self.score_graph.run(None, {name: feed[name] for name in self._score_inputs})
        return logits

    def encode(self, users: Sequence[tuple[str, UserInputs]]) -> list[Encoding]:
        """The users' encodings, kept from now on: made anew, extended, or as they were. A user's lists share one.

        Args:
            users: as for `score`.
        """
        encodings: dict[str, Encoding] = {}
        extended: list[tuple[UserInputs, Encoding]] = []
        rebuilt: list[tuple[UserInputs, Encoding]] = []
        for user_id, inputs in users:
            if user_id in encodings:
                continue
            encoding = self.cache.pop(user_id, None)
            if encoding is None or not self._extends(encoding, inputs):
                encoding = Encoding(self.layers, self.window, self.width)
            self.cache[user_id] = encodings[user_id] = encoding
            if len(inputs.history) > encoding.length:
                (extended if encoding.length else rebuilt).append((inputs, encoding))
        while len(self.cache) > self.capacity:
            self.cache.popitem(last=False)
        for group in (extended, rebuilt):
            if group:
                self._extend(group)
        self.extended += len(extended)
        self.rebuilt += len(rebuilt)
        return [encodings[user_id] for user_id, _ in users]

    def forget(self, user_id: str) -> None:
        """Drop a user's encoding."""
        self.cache.pop(user_id, None)

    def forget_some(self, users: int) -> bool:
        """Drop the encodings of so many users; whether there are more."""
        with suppress(KeyError):  # that was the last
            for _ in range(users):
                self.cache.popitem()
        return bool(self.cache)

    def _extends(self, encoding: Encoding, inputs: UserInputs) -> bool:
        """Whether the encoding is of a beginning of these events, and no item in it has changed since."""
        if not inputs.events.startswith(encoding.events):
            return False
        seen = inputs.history[: encoding.length]
        return not encoding.length or int(self.tables.changed_at[seen].max()) <= encoding.clock

    def _extend(self, group: list[tuple[UserInputs, Encoding]]) -> None:
        past = max(1, *(encoding.length for _, encoding in group))
        new = max(len(inputs.history) - encoding.length for inputs, encoding in group)
        fresh = [slice(encoding.length, len(inputs.history)) for inputs, encoding in group]
        news = [(inputs, part) for (inputs, _), part in zip(group, fresh, strict=True)]
        feed = {
            "item_vec": padded([self.tables.vectors[inputs.history[part]] for inputs, part in news], new),
            "action": padded([inputs.action[part] for inputs, part in news], new),
            "gap": padded([inputs.gap[part] for inputs, part in news], new),
            "value": padded([inputs.value[part] for inputs, part in news], new),
            # Beyond its length an encoding is zero.
            "past_k": np.stack([encoding.k[:, :past] for _, encoding in group]),
            "past_v": np.stack([encoding.v[:, :past] for _, encoding in group]),
            "past_len": np.array([encoding.length for _, encoding in group], np.int64),
            "n_len": np.array([part.stop - part.start for part in fresh], np.int64),
        }
        k, v, h = self.extend.run(None, {name: feed[name] for name in self._extend_inputs})
        for at, (inputs, encoding) in enumerate(group):
            old, length = encoding.length, len(inputs.history)
            if not old:
                encoding.clock = self.tables.clock
            encoding.k[:, old:length] = k[at, :, : length - old]
            encoding.v[:, old:length] = v[at, :, : length - old]
            encoding.h[old:length] = h[at, : length - old]
            encoding.length, encoding.events = length, inputs.events
