"""Reader of the weights of an exported Paddle inference model, by layer names, without executing anything.

`.pdiparams` is the plain concatenation of the tensors in the order of their sorted variable names; the names are in
`.pdmodel`, a protobuf. Export gives every variable the name that it has in the network ("backbone.stem.0.weight").
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from paddle import nn
from paddle.base.proto import framework_pb2

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import readable_folder
from ppocr_slim.models.state import with_training_only
from ppocr_slim.runtime.bundle import PADDLE_PROGRAM, PADDLE_WEIGHTS, is_bundle
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, load_weights
from ppocr_slim.tasks.checks import folder_card

_TENSOR = 7  # VarType.DENSE_TENSOR, LOD_TENSOR before Paddle 3
_DTYPES = {
    framework_pb2.VarType.FP32: np.dtype("<f4"),
    framework_pb2.VarType.FP64: np.dtype("<f8"),
    framework_pb2.VarType.INT32: np.dtype("<i4"),
    framework_pb2.VarType.INT64: np.dtype("<i8"),
}


def load_network(folder: Path) -> tuple[nn.Layer, ModelCard]:
    """Load the network of a checkpoint folder or of a bundle with Paddle files, whose weights are float.

    Returns:
        The network in evaluation mode, and its card.

    Raises:
        SlimError: the folder is neither, or it is damaged.
    """
    folder = readable_folder(Path(folder))
    if not is_bundle(folder):
        return load_model(folder)
    card = folder_card(folder)
    model = card.build(str(folder))
    load_weights(model, with_training_only(model, read_bundle_weights(folder)), folder)
    model.eval()
    return model, card


def read_bundle_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the parameters and buffers of a bundle's Paddle model.

    Args:
        folder: the bundle.

    Returns:
        Name in the network -> array.

    Raises:
        SlimError: the files are missing or damaged, or contain anything but plain float and integer tensors.
    """
    folder = Path(folder)
    try:
        program = framework_pb2.ProgramDesc.FromString((folder / PADDLE_PROGRAM).read_bytes())
        stream = io.BytesIO((folder / PADDLE_WEIGHTS).read_bytes())
    except OSError as error:
        raise SlimError(
            f"cannot read {error.filename}: {error.strerror}; weights can only be read from a bundle with Paddle files"
        ) from error
    except Exception as error:  # protobuf's DecodeError, whose module differs from version to version
        raise SlimError(f"{folder / PADDLE_PROGRAM} is damaged ({error}): export the bundle again") from error
    names = _variable_names(program)
    try:
        weights = {name: _read_tensor(stream) for name in names}
        if stream.read(1):
            raise ValueError("it contains more than the tensors of the program")
    except Exception as error:  # damaged lengths and descriptions fail in many ways
        raise SlimError(f"{folder / PADDLE_WEIGHTS} is damaged ({error}): export the bundle again") from error
    return weights


def _variable_names(program: framework_pb2.ProgramDesc) -> list[str]:
    variables = program.blocks[0].vars
    tensors = [v for v in variables if v.persistable and v.type.type == _TENSOR]
    return sorted(variable.name for variable in tensors)


def _read_tensor(stream: io.BytesIO) -> np.ndarray:
    """Read one tensor of Paddle's stream: version, levels of detail, version, description, values."""
    version, levels = struct.unpack("<IQ", stream.read(12))
    if version or levels:
        raise ValueError(f"version {version} with {levels} levels of detail cannot be read")
    version, size = struct.unpack("<Ii", stream.read(8))
    if version:
        raise ValueError(f"tensor version {version} cannot be read")
    description = framework_pb2.VarType.TensorDesc.FromString(stream.read(size))
    dtype, shape = _DTYPES[description.data_type], tuple(description.dims)
    data = stream.read(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    return np.frombuffer(data, dtype).reshape(shape).copy()
