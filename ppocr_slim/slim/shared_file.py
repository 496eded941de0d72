"""A network whose layers have few distinct weights, as one small file.

    PPSLIMSH         8 bytes
    header's length  4 bytes, little-endian, as all numbers here
    header           zlib: JSON with the model's card, name and shape of every tensor, SHA-256 of what follows
    tensors          one after the other

A tensor of at most 256 distinct values is its codebook (float32) and, behind it, a byte a weight that says which one it
is, Huffman-coded (zlib's Z_HUFFMAN_ONLY: within 1% of their entropy, and better than zlib's or LZMA's search for
repetitions, of which weights have none). Any other tensor is its float32 numbers, the first bytes of all, the second
ones and so on, by zlib. Reading gives the very float32 numbers that were written, and executes nothing.
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
CODES = 256  # distinct values that a byte tells apart
MOST_NUMBERS = 2**31  # of a tensor; a header that asks for more is damaged


def codes_of(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct float32 values of an array, bit for bit, and which of them each number is: [values], [size]."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).ravel()
    values, codes = np.unique(bits, return_inverse=True)
    return values.view(np.float32), codes.ravel()


def write_shared(path: Path, card: ModelCard, weights: Mapping[str, np.ndarray]) -> int:
    """Write float32 weights by name, whole or not at all; gives the file's bytes. SlimError where that fails."""
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
    """The card of a network and its float32 weights by name. SlimError if the file is missing, damaged or no such."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror}") from error
    if data[: len(MAGIC)] != MAGIC:
        raise SlimError(f"{path} is no file of shared weights")
    try:
        start = len(MAGIC) + 4
        body_at = start + struct.unpack("<I", data[len(MAGIC) : start])[0]
        header = json.loads(zlib.decompress(data[start:body_at]))
        if header["format"] != FORMAT:
            raise SlimError(f"{path}: format {header['format']!r} is not known to this version")
        body = data[body_at:]
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise ValueError("its checksum is another")
        card = ModelCard.from_dict(header["card"], Path(path))
        weights, at = {}, 0
        for entry in header["tensors"]:
            weights[entry["name"]] = _unpack(body[at : at + entry["bytes"]], entry)
            at += entry["bytes"]
        return card, weights
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error, zlib.error) as error:
        raise SlimError(f"{path} is damaged ({error}): write it again from its checkpoint") from error


def _pack(array: np.ndarray) -> tuple[int, bytes]:
    """The number of distinct values, 0 for a tensor that is written as it is, and the bytes."""
    numbers = np.ascontiguousarray(array, "<f4")
    values, codes = codes_of(numbers)
    if values.size <= CODES and 2 * values.size < numbers.size:
        return values.size, values.astype("<f4").tobytes() + _deflate(codes.astype(np.uint8), zlib.Z_HUFFMAN_ONLY)
    return 0, _deflate(numbers.view(np.uint8).reshape(-1, 4).T, zlib.Z_DEFAULT_STRATEGY)


def _deflate(numbers: np.ndarray, strategy: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return packer.compress(numbers.tobytes()) + packer.flush()


def _unpack(packed: bytes, entry: Mapping[str, Any]) -> np.ndarray:
    values, shape = entry["values"], [int(side) for side in entry["shape"]]
    size = prod(shape)
    if not 0 <= values <= CODES or not 0 <= size <= MOST_NUMBERS:
        raise ValueError("a size that cannot be")
    if values:
        codebook = np.frombuffer(packed[: 4 * values], "<f4")
        return codebook[_inflate(packed[4 * values :], size)].astype(np.float32).reshape(shape)
    planes = _inflate(packed, 4 * size).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<f4").astype(np.float32).reshape(shape)


def _inflate(packed: bytes, size: int) -> np.ndarray:
    """`size` bytes, however many more would come out."""
    numbers = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size) if size else b""
    if len(numbers) != size:
        raise ValueError("a tensor is cut short")
    return np.frombuffer(numbers, np.uint8)
