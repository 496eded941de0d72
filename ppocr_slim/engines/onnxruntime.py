"""ONNX Runtime, the engine that every installation has."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppocr_slim.engines.session import Session, TensorInfo, one_by_one, one_line
from ppocr_slim.errors import SlimError


class OnnxSession(Session):
    """ONNX Runtime on the CPU.

    Args:
        model: an ONNX file, or its bytes.
        threads: of the operators.
        by_sample: run the samples of a batch one by one. An INT8 network's LSTM takes the range of its inputs from all
            samples of a batch, and a text must not depend on its neighbours.
        name: of the network in messages; by default the file.

    Raises:
        SlimError: ONNX Runtime cannot load the file.
    """

    def __init__(self, model: Path | str | bytes, threads: int, by_sample: bool = False, name: str | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Lines come in many widths: a memory plan kept for every shape ever seen would grow with each new one.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors alone
        self.name = name or ("the network" if isinstance(model, bytes) else str(model))
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own that share no public base
            raise SlimError(f"{self.name}: ONNX Runtime cannot load it ({one_line(error)}); export it again") from error
        self.inputs = tuple(_info(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(_info(tensor) for tensor in self._session.get_outputs())
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._by_sample = by_sample

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        if self._by_sample:
            return one_by_one(self._run, inputs, outputs)
        return self._run(inputs, outputs)

    def _run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        names = self.output_names(outputs)
        try:
            return dict(zip(names, self._session.run(names, dict(inputs))))
        except Exception as error:  # as above
            shapes = ", ".join(str(list(x.shape)) for x in inputs.values())
            raise SlimError(f"{self.name} does not run on an input of shape {shapes} ({one_line(error)})") from error


def fused_operators(path: Path | str) -> dict[str, int]:
    """Return the number of operators of each type in the graph that ONNX Runtime optimizes a file to."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 4  # it warns that such a file is for this processor only
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return dict(Counter(node.op_type for node in nodes))


def _info(tensor) -> TensorInfo:
    return TensorInfo(tensor.name, tuple(size if isinstance(size, int) else None for size in tensor.shape))
