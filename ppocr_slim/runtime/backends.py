"""The engines that run a bundle: each turns `x [N, 3, H, W] float32` into probabilities [N, T, K] float32."""

from __future__ import annotations

import os
from typing import Callable, Dict, Optional

import numpy as np
import onnxruntime

from ppocr_slim.errors import SlimError, logger
from ppocr_slim.runtime.bundle import ONNX, PADDLE_PROGRAM, PADDLE_WEIGHTS, Bundle

Session = Callable[[np.ndarray], np.ndarray]
"""`x [N, 3, H, W] float32` -> probabilities [N, T, K] float32, softmax already applied."""


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OnnxSession:
    """ONNX Runtime on the CPU."""

    def __init__(self, bundle: Bundle, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Rows come in many widths: a memory plan kept for every shape ever seen would grow with each new one.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors alone
        path = bundle.file(ONNX)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own that share no public base
            raise SlimError(f"{path}: ONNX Runtime cannot load it ({error}); export the bundle again") from error
        output = self._session.get_outputs()[0]
        if output.shape[-1] != len(bundle.classes):
            raise SlimError(
                f"{path} has {output.shape[-1]} classes and its inference.yml {len(bundle.classes)}: "
                "they do not belong together; export the bundle again"
            )
        self._outputs = [output.name]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._session.run(self._outputs, {"x": x})[0]


class PaddleSession:
    """Paddle Inference on the CPU; the only engine that imports paddle."""

    def __init__(self, bundle: Bundle, threads: int):
        try:
            from paddle import inference
        except ImportError as error:
            raise SlimError("the backend paddle needs paddlepaddle: pip install paddlepaddle") from error
        config = inference.Config(str(bundle.file(PADDLE_PROGRAM)), str(bundle.file(PADDLE_WEIGHTS)))
        config.disable_gpu()
        config.disable_glog_info()
        logger.info("Paddle Inference: MKL code path: %s", os.environ.get("MKL_DEBUG_CPU_TYPE", "its own choice"))
        config.set_cpu_math_library_num_threads(threads)
        self._predictor = inference.create_predictor(config)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self._predictor.get_input_handle("x").copy_from_cpu(x)
        self._predictor.run()
        return self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()


BACKENDS: Dict[str, Callable[[Bundle, int], Session]] = {
    "onnxruntime": OnnxSession,
    "paddle": PaddleSession,
}


def open_session(bundle: Bundle, backend: str = "onnxruntime", threads: Optional[int] = None) -> Session:
    """A session on `bundle` with `threads` threads, by default as many as there are cores.

    Raises:
        SlimError: an unknown backend, one that is not installed, or a file that it cannot load.
    """
    if backend not in BACKENDS:
        raise SlimError(f"the backend {backend!r} is not known; choose one of {', '.join(BACKENDS)}")
    if threads is not None and threads < 1:
        raise SlimError(f"{threads} threads cannot run anything; give at least 1, or none for all cores")
    return BACKENDS[backend](bundle, threads or usable_cores())
