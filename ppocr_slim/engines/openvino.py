"""OpenVINO, which reads the same ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ppocr_slim.engines.session import Session, TensorInfo, one_by_one
from ppocr_slim.errors import SlimError


@cache
def _core():
    """The process's only core, which stays.

    Each core gives its thread another stack for signals and, when it goes, puts back the one that it found: where an
    older core went before it, that one's, which is gone, and the next signal kills the process (2025.4).
    """
    import openvino

    return openvino.Core()


class OpenVinoSession(Session):
    """OpenVINO on the CPU, in float32 where the network is: it would take bfloat16 where the processor has it.

    Args:
        path: an ONNX file.
        threads: of the operators.
        by_sample: accepted for all engines alike; samples always run one by one here.

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
            # One sample a run: of an INT8 convolution behind a batch of unknown size OpenVINO (2025.4 to 2026.4) makes
            # a wrong one, if there is an LSTM in the network.
            shapes = {}
            for tensor in model.inputs:
                shapes[tensor] = tensor.partial_shape
                shapes[tensor][0] = 1
            model.reshape(shapes)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise SlimError(f"{path}: OpenVINO {openvino.__version__} cannot load it ({reason})") from error
        self.inputs = tuple(_info(tensor) for tensor in model.inputs)
        self.outputs = tuple(_info(tensor) for tensor in model.outputs)

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        return one_by_one(self._run, inputs, outputs)

    def _run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        self._request.infer(dict(inputs))
        names = [output.name for output in self.outputs] if outputs is None else outputs
        return {name: self._request.get_tensor(name).data.copy() for name in names}


def _info(tensor) -> TensorInfo:
    sizes = (size.get_length() if size.is_static else None for size in tensor.partial_shape)
    return TensorInfo(tensor.any_name, tuple(sizes))
