"""The compact file of a network with shared weights (model.shared).

    PPSLIMSH         8 bytes
    header's length  4 bytes, little-endian, as all numbers here
    header           zlib: JSON with the model's card, name and shape of every tensor, SHA-256 of what follows
    tensors          one after the other

A tensor of at most 256 distinct values is stored as its codebook (float32), followed by the index of each weight, one
byte each, Huffman-coded (zlib's Z_HUFFMAN_ONLY: within 1% of their entropy, and smaller than with the matching of zlib
or LZMA, since weights have no repetitions). Any other tensor is stored as float32 numbers, split into byte planes (the
first bytes of all, the second ones and so on), by zlib. Reading is lossless and executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import replacing
from ppocr_slim.tasks.checkpoint import ModelCard

SHARED_FILE = "model.shared"
MAGIC, FORMAT = b"PPSLIMSH", 1
MAX_CODES = 256  # distinct values that a byte can index
MAX_NUMBERS = 2**31  # of a tensor; a header that says more is damaged


def codes_of(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct float32 values of an array, compared bit by bit, and the index of each number's value.

    Args:
        array: numbers of any shape.

    Returns:
        Values [V] float32 and indexes [size].
    """
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).ravel()
    values, codes = np.unique(bits, return_inverse=True)
    return values.view(np.float32), codes.ravel()


def write_shared(path: Path, card: ModelCard, weights: Mapping[str, np.ndarray]) -> int:
    """Write a network's weights, whole or not at all.

    Args:
        path: file to write.
        card: the network's.
        weights: float32 by name.

    Returns:
        The file's size in bytes.

    Raises:
        SlimError: the file cannot be written.
    """
    parts = {name: _pack(array) for name, array in weights.items()}
    body = b"".join(packed for _, packed in parts.values())
    header = {
        "format": FORMAT,
        "card": card.to_dict(),
        "tensors": [
            {"name": name, "shape": list(weights[name].shape), "values": values, "bytes": len(packed)}
            for name, (values, packed) in parts.items()
        ],
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    head = zlib.compress(json.dumps(header, ensure_ascii=False).encode(), 9)
    data = MAGIC + struct.pack("<I", len(head)) + head + body
    with replacing(path) as new:
        new.write_bytes(data)
    return len(data)


def read_shared(path: Path) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Read a network's card and its float32 weights by name.

    Args:
        path: file of `write_shared`.

    Raises:
        SlimError: the file is missing or damaged, or it is another kind of file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror}") from error
    if data[: len(MAGIC)] != MAGIC:
        raise SlimError(f"{path} is not a file of shared weights ({SHARED_FILE})")
    try:
        start = len(MAGIC) + 4
        body_at = start + struct.unpack("<I", data[len(MAGIC) : start])[0]
        header = json.loads(zlib.decompress(data[start:body_at]))
        if header["format"] != FORMAT:
            raise SlimError(f"{path} has format {header['format']!r}, which this version cannot read")
        body = data[body_at:]
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise ValueError("its checksum does not match")
        card = ModelCard.from_dict(header["card"], Path(path))
        weights, at = {}, 0
        for entry in header["tensors"]:
            weights[entry["name"]] = _unpack(body[at : at + entry["bytes"]], entry)
            at += entry["bytes"]
        return card, weights
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, zlib.error) as error:
        raise SlimError(f"{path} is damaged ({error}): write it again from its checkpoint") from error


def _pack(array: np.ndarray) -> tuple[int, bytes]:
    """Return the number of distinct values, 0 for a tensor that is stored without a codebook, and the bytes."""
    numbers = np.ascontiguousarray(array, "<f4")
    values, codes = codes_of(numbers)
    if values.size <= MAX_CODES and 2 * values.size < numbers.size:
        return values.size, values.astype("<f4").tobytes() + _deflate(codes.astype(np.uint8), zlib.Z_HUFFMAN_ONLY)
    return 0, _deflate(numbers.view(np.uint8).reshape(-1, 4).T, zlib.Z_DEFAULT_STRATEGY)


def _deflate(numbers: np.ndarray, strategy: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return packer.compress(numbers.tobytes()) + packer.flush()


def _unpack(packed: bytes, entry: Mapping[str, Any]) -> np.ndarray:
    values, shape = entry["values"], [int(side) for side in entry["shape"]]
    size = prod(shape)
    if not 0 <= values <= MAX_CODES or not 0 <= size <= MAX_NUMBERS:
        raise ValueError("impossible size of a tensor")
    if values:
        codebook = np.frombuffer(packed[: 4 * values], "<f4")
        return codebook[_inflate(packed[4 * values :], size)].astype(np.float32).reshape(shape)
    planes = _inflate(packed, 4 * size).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<f4").astype(np.float32).reshape(shape)


def _inflate(packed: bytes, size: int) -> np.ndarray:
    """Decompress `size` bytes and no more, whatever a damaged file holds."""
    numbers = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size) if size else b""
    if len(numbers) != size:
        raise ValueError("a tensor is cut short")
    return np.frombuffer(numbers, np.uint8)
