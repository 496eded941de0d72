"""OpenVINO, an engine for the same ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ppocr_slim.engines.session import Session, TensorInfo, one_by_one, one_line
from ppocr_slim.errors import SlimError


@cache
def _core():
    """Return the process's only core, which is never deleted.

    Each core gives its thread another stack for signals and, when it is deleted, restores the one that it found. If an
    older core was deleted before it, that stack is gone, and the next signal kills the process (2025.4).
    """
    import openvino

    return openvino.Core()


class OpenVinoSession(Session):
    """OpenVINO on the CPU, in float32 where the network is: it would take bfloat16 where the processor has it.

    Args:
        path: an ONNX file.
        threads: of the operators.
        by_sample: accepted so that all engines have it; samples always run one by one here.

    Raises:
        SlimError: OpenVINO is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, threads: int, by_sample: bool = False):
        try:
            import openvino
        except ImportError as error:
            raise SlimError("the engine openvino needs openvino: pip install openvino") from error
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        core = _core()
        try:
            model = core.read_model(str(path))
            # One sample a run: OpenVINO (2025.4 to 2026.4) computes an INT8 convolution behind a batch of unknown size
            # wrong, if there is an LSTM in the network.
            shapes = {}
            for tensor in model.inputs:
                shapes[tensor] = tensor.partial_shape
                shapes[tensor][0] = 1
            model.reshape(shapes)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise SlimError(f"{path}: OpenVINO {openvino.__version__} cannot load it ({one_line(error)})") from error
        self.inputs = tuple(_info(tensor) for tensor in model.inputs)
        self.outputs = tuple(_info(tensor) for tensor in model.outputs)

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        return one_by_one(self._run, inputs, outputs)

    def _run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        self._request.infer(dict(inputs))
        return {name: self._request.get_tensor(name).data.copy() for name in self.output_names(outputs)}


def _info(tensor) -> TensorInfo:
    sizes = (size.get_length() if size.is_static else None for size in tensor.partial_shape)
    return TensorInfo(tensor.any_name, tuple(sizes))
