"""Paddle Inference, the only engine that imports paddle, and only when a file is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppocr_slim.engines.session import Session, TensorInfo
from ppocr_slim.errors import SlimError, logger


class PaddleSession(Session):
    """Paddle Inference on the CPU.

    Args:
        program: a `.pdmodel` file, whose weights lie beside it in the `.pdiparams` file of the same name.
        threads: of the operators.
        by_sample: accepted so that all engines have it; Paddle's float networks do not need it.

    Raises:
        SlimError: paddlepaddle is not installed.
    """

    def __init__(self, program: Path, threads: int, by_sample: bool = False):
        try:
            from paddle import inference
        except ImportError as error:
            raise SlimError("the engine paddle needs paddlepaddle: pip install paddlepaddle") from error
        config = inference.Config(str(program), str(Path(program).with_suffix(".pdiparams")))
        config.disable_gpu()
        config.disable_glog_info()
        logger.info("Paddle Inference: MKL code path: %s", os.environ.get("MKL_DEBUG_CPU_TYPE", "its own choice"))
        config.set_cpu_math_library_num_threads(threads)
        self._predictor = inference.create_predictor(config)
        self.inputs = tuple(TensorInfo(name) for name in self._predictor.get_input_names())
        self.outputs = tuple(TensorInfo(name) for name in self._predictor.get_output_names())

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        for name, x in inputs.items():
            self._predictor.get_input_handle(name).copy_from_cpu(x)
        self._predictor.run()
        names = self.output_names(outputs)
        return {name: self._predictor.get_output_handle(name).copy_to_cpu() for name in names}
