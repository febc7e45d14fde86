"""A graph without its weights, and the weights put into it: all of ONNX's file format that serving has to write.

A skeleton is an ONNX file whose initialisers were taken out. Protocol Buffers reads two messages that stand one behind
the other as one, with their repeated fields joined ("Encoding", Last One Wins, protobuf.dev). So the whole graph is the
skeleton, and behind it a model that has nothing but initialisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_DATA_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
_VARINT, _BYTES = 0, 2  # wire types


def with_initializers(skeleton: bytes, weights: Mapping[str, np.ndarray]) -> bytes:
    """The graph with these initialisers, as the bytes of an ONNX file.

    Args:
        skeleton: an ONNX file that has none of them.
        weights: float32 or int64 arrays by the names that the graph's nodes read.

    Raises:
        ValueError: an array is of another type.
    """
    tensors = b"".join(_field(_GRAPH_INITIALIZER, _tensor(name, weights[name])) for name in sorted(weights))
    return skeleton + _field(_MODEL_GRAPH, tensors)


def _tensor(name: str, value: np.ndarray) -> bytes:
    """A TensorProto."""
    if value.dtype not in _DATA_TYPES:
        known = ", ".join(map(str, _DATA_TYPES))
        raise ValueError(f"{name} holds {value.dtype}; an initialiser is written of {known}")
    little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
    return b"".join(
        (
            *(_number(_DIMS, size) for size in value.shape),
            _number(_DATA_TYPE, _DATA_TYPES[value.dtype]),
            _field(_NAME, name.encode()),
            _field(_RAW_DATA, little.tobytes()),
        )
    )


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _field(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """A number that is not negative, seven bits a byte, the lowest first."""
    return bytes(_seven_bits(value))


def _seven_bits(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
