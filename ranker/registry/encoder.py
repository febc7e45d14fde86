"""Sentence encoders on the serving side: an item's text to a unit vector, by ONNX Runtime, without torch.

An encoder is a folder: `model.onnx` (token ids in, one vector a token out), `tokenizer.json` (Hugging Face tokenizers)
and `encoder.json`, which names it and holds the hashes of both; `encoder.json.sig` where it was signed
(`ranker.registry.signatures`). Registries keep them under `encoders/NAME/`. The vector
is the mean of the token vectors, scaled to length 1 (N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

import fsspec
import msgspec
import numpy as np
import onnxruntime
from msgspec import Struct
from tokenizers import Encoding, Tokenizer

from ranker.contracts.errors import BundleError, LiverankError
from ranker.contracts.path_names import path_name
from ranker.registry.address import READ_AT_MOST, fetch_file, read_signature, sha256
from ranker.registry.settings import RegistrySettings, shown_address
from ranker.registry.signatures import SIGNATURE, check_signature

MODEL, TOKENIZER, DESCRIPTION = "model.onnx", "tokenizer.json", "encoder.json"
_LARGEST_TOKENIZER = 64 << 20  # bytes; it is read whole
_LARGEST = 8192  # numbers in a vector, tokens of a text
_MAX_CHARACTERS_PER_TOKEN = 64  # what lies behind is cut off before it is split into tokens


class EncoderError(LiverankError):
    """A sentence encoder that must not be used: it is missing, incomplete or not what it was published as."""


class TextEncoder(Protocol):
    """Texts to vectors. `name` stands beside every stored vector: two encoders of one name give the same vectors."""

    @property
    def name(self) -> str:
        """What the vectors are called after."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, dim]: vectors of length 1, all zero for a blank text. It depends on no other text given."""


class EncoderDescription(Struct, frozen=True, kw_only=True):
    """`encoder.json`. `sha256` names both other files."""

    name: str
    dim: int
    max_tokens: int
    sha256: dict[str, str]


class OnnxTextEncoder:
    """A published encoder, opened from its folder and checked against the hashes it was published with.

    Raises:
        EncoderError: a file is missing, differs from what was published, or gives vectors of another size.
    """

    def __init__(self, folder: Path, *, threads: int = 1, batch: int = 32) -> None:
        self._description = read_description(folder)
        self._batch = batch
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._description.max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}
        width = self._run(self._tokenizer.encode_batch(["a"])).shape[1]
        if width != self.dim:
            raise EncoderError(f"{folder / MODEL} gives vectors of {width}; {DESCRIPTION} says {self.dim}")

    @property
    def name(self) -> str:
        """What the vectors are called after."""
        return self._description.name

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._description.dim

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, dim], each of length 1, or zero for a blank text. Texts past `max_tokens` are cut."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        wanted = [index for index, text in enumerate(texts) if text.strip()]
        tokens = self._tokenizer.encode_batch([self._cut(texts[index]) for index in wanted])
        by_length = sorted(range(len(wanted)), key=lambda place: len(tokens[place]))  # little padding in each batch
        for start in range(0, len(wanted), self._batch):
            places = by_length[start : start + self._batch]
            vectors[[wanted[place] for place in places]] = self._run([tokens[place] for place in places])
        return vectors

    def _cut(self, text: str) -> str:
        cut = text[: self._description.max_tokens * _MAX_CHARACTERS_PER_TOKEN]
        return cut.encode("utf-8", "replace").decode()  # half a surrogate pair would fail in the tokenizer

    def _run(self, tokens: list[Encoding]) -> np.ndarray:
        longest = max(len(line) for line in tokens)
        ids = np.zeros((len(tokens), longest), np.int64)  # [batch, tokens]; masked, so any id pads
        mask = np.zeros_like(ids)
        for row, line in enumerate(tokens):
            ids[row, : len(line)] = line.ids
            mask[row, : len(line)] = 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        given = {name: value for name, value in known.items() if name in self._inputs}
        hidden = self._session.run(None, given)[0]  # [batch, tokens, dim]
        summed = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
        # The mean's divisor cancels in the scaling; a text without any token stays zero.
        unit: np.ndarray = summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)
        return unit.astype(np.float32)


def read_description(folder: Path) -> EncoderDescription:
    """The folder's `encoder.json`, once both other files match it.

    Raises:
        EncoderError: a file is missing or differs from what was published.
    """
    try:
        description = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=EncoderDescription)
        for file in (MODEL, TOKENIZER):
            found, wanted = sha256(folder / file), description.sha256.get(file)
            if found != wanted:
                raise EncoderError(f"{folder / file} has the sha256 {found}; it was published with {wanted}")
    except OSError as error:
        files = ", ".join((MODEL, TOKENIZER, DESCRIPTION))
        raise EncoderError(f"{folder} holds no whole encoder ({error}); its files must be {files}") from error
    except msgspec.DecodeError as error:
        raise EncoderError(f"{folder / DESCRIPTION} describes no encoder: {error}") from error
    for what, size in (("vectors", description.dim), ("texts", description.max_tokens)):
        if not 0 < size <= _LARGEST:
            raise EncoderError(f"{folder / DESCRIPTION} says {what} of {size}; they may be of 1 to {_LARGEST}")
    return description


def load_encoder(registry: RegistrySettings, name: str, cache: Path) -> OnnxTextEncoder:
    """The encoder that a registry keeps under `encoders/NAME/`, through a local copy in `cache`.

    Args:
        registry: where it is, and whose signatures count.
        name: what `online_learning.first_model.encoders.publish_encoder` returned.
        cache: a local folder; the copy appears in it only once it is whole and checked.

    Raises:
        EncoderError: the registry has no such encoder, a copy of it is not what was published, or nobody has signed it
            whose signature counts.
    """
    try:
        path_name(name, "encoder")
        kept = cache / name
        if kept.exists() and not _counts(kept, registry):
            shutil.rmtree(kept)  # from before signatures counted: the registry may have one by now
        if not kept.exists():
            _fetch(registry, name, kept)
    except BundleError as error:
        raise EncoderError(str(error)) from error
    encoder = OnnxTextEncoder(kept)
    if encoder.name != name:
        raise EncoderError(f"{kept} holds the encoder {encoder.name!r}; wanted is {name!r}")
    return encoder


def _counts(folder: Path, registry: RegistrySettings) -> bool:
    try:
        _check_signature(folder, registry)
    except (BundleError, OSError):
        return False
    return True


def _check_signature(folder: Path, registry: RegistrySettings) -> None:
    path, beside = folder / DESCRIPTION, folder / (DESCRIPTION + SIGNATURE)
    check_signature(str(path), path.read_bytes(), beside.read_bytes() if beside.exists() else None, registry)


def _fetch(registry: RegistrySettings, name: str, kept: Path) -> None:
    files, root = fsspec.url_to_fs(registry.address)
    kept.parent.mkdir(parents=True, exist_ok=True)
    arriving = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=kept.parent))
    home, left = f"{root}/encoders/{name}", registry.max_bundle_mb << 20
    try:
        fetch_file(files, f"{home}/{DESCRIPTION}", arriving / DESCRIPTION, READ_AT_MOST)
        if (signature := read_signature(files, f"{home}/{DESCRIPTION}{SIGNATURE}")) is not None:
            (arriving / (DESCRIPTION + SIGNATURE)).write_bytes(signature)
        _check_signature(arriving, registry)
        left -= fetch_file(files, f"{home}/{TOKENIZER}", arriving / TOKENIZER, min(left, _LARGEST_TOKENIZER))
        fetch_file(files, f"{home}/{MODEL}", arriving / MODEL, left)
        read_description(arriving)
        arriving.rename(kept)
    except FileNotFoundError as error:
        known = ", ".join(_published(files, root)) or "none"
        where = shown_address(registry.address)
        raise EncoderError(f"{where} has no whole encoder {name!r}; it has {known}") from error
    except OSError:
        if not kept.exists():  # else another process brought the same encoder meanwhile
            raise
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _published(files: Any, root: str) -> list[str]:
    try:
        return sorted(Path(found).name for found in files.ls(f"{root}/encoders", detail=False))
    except FileNotFoundError:
        return []
