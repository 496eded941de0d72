"""The engines that run a bundle: each turns `x [N, 3, H, W] float32` into probabilities float32, [N, T, K] of a
recognizer, [N, 1, H, W] of a detector, [N, 2] of a direction classifier.

A session computes the rows of a batch as if each were alone.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from ppocr_slim import cpuinfo
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.runtime.bundle import INT8, ONNX, PADDLE_PROGRAM, PADDLE_WEIGHTS, SAFE_BITS, Bundle

Session = Callable[[np.ndarray], np.ndarray]
"""`x [N, 3, H, W] float32` -> probabilities float32: [N, T, K], [N, 1, H, W] or [N, 2]."""


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OnnxSession:
    """ONNX Runtime on the CPU.

    Args:
        by_row: run the rows of a batch one by one. An INT8 network's LSTM takes the range of its inputs from all rows
            of a batch, and what is read must not depend on the neighbours.
    """

    def __init__(self, path: Path, threads: int, by_row: bool = False):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Rows come in many widths: a memory plan kept for every shape ever seen would grow with each new one.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors alone
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own that share no public base
            reason = " ".join(str(error).split())
            raise SlimError(f"{path}: ONNX Runtime cannot load it ({reason}); export the bundle again") from error
        output = self._session.get_outputs()[0]
        self.classes = output.shape[-1]
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name]
        self._by_row = by_row

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self._by_row:
            return np.concatenate([self._run(row[None]) for row in x])
        return self._run(x)

    def _run(self, x: np.ndarray) -> np.ndarray:
        return self._session.run(self._outputs, {self._input: x})[0]


@cache
def _openvino_core():
    """The process's only one, which stays.

    Each core gives its thread another stack for signals and, when it goes, puts back the one that it found: where an
    older core went before it, that one's, which is gone, and the next signal kills the process (2025.4).
    """
    import openvino

    return openvino.Core()


class OpenVinoSession:
    """OpenVINO on the CPU, in float32 where the network is: it would take bfloat16 where the processor has it."""

    def __init__(self, path: Path, threads: int):
        try:
            import openvino
        except ImportError as error:
            raise SlimError("the backend openvino needs openvino: pip install openvino") from error
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        core = _openvino_core()
        try:
            model = core.read_model(str(path))
            shape = model.inputs[0].partial_shape
            # One row a run: of an INT8 convolution behind a batch of unknown size OpenVINO (2025.4 to 2026.4) makes
            # a wrong one, if there is an LSTM in the network.
            shape[0] = 1
            model.reshape({model.inputs[0]: shape})
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise SlimError(f"{path}: OpenVINO {openvino.__version__} cannot load it ({reason})") from error
        classes = model.outputs[0].partial_shape[-1]
        self.classes = classes.get_length() if classes.is_static else None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([self._run(row[None]) for row in x])

    def _run(self, x: np.ndarray) -> np.ndarray:
        self._request.infer({0: x})
        return self._request.get_output_tensor(0).data.copy()


class PaddleSession:
    """Paddle Inference on the CPU; the only engine that imports paddle."""

    def __init__(self, program: Path, weights: Path, threads: int):
        try:
            from paddle import inference
        except ImportError as error:
            raise SlimError("the backend paddle needs paddlepaddle: pip install paddlepaddle") from error
        config = inference.Config(str(program), str(weights))
        config.disable_gpu()
        config.disable_glog_info()
        logger.info("Paddle Inference: MKL code path: %s", os.environ.get("MKL_DEBUG_CPU_TYPE", "its own choice"))
        config.set_cpu_math_library_num_threads(threads)
        self._predictor = inference.create_predictor(config)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self._predictor.get_input_handle("x").copy_from_cpu(x)
        self._predictor.run()
        return self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()


BACKENDS = ("onnxruntime", "openvino", "paddle")
PRECISIONS = ("auto", "fp32", "int8")


def open_session(
    bundle: Bundle, backend: str = "onnxruntime", threads: int | None = None, precision: str = "auto"
) -> Session:
    """A session on `bundle` with `threads` threads, by default as many as there are cores.

    Args:
        precision: "fp32", "int8", or "auto": the one that was faster with this backend when the bundle was exported;
            never an INT8 file that this processor computes wrong (see `overflows`) where there is FP32.

    Raises:
        SlimError: an unknown backend, one that is not installed, or a file that it cannot load or that is not there.
    """
    if backend not in BACKENDS:
        raise SlimError(f"the backend {backend!r} is not known; choose one of {', '.join(BACKENDS)}")
    if threads is not None and threads < 1:
        raise SlimError(f"{threads} threads cannot run anything; give at least 1, or none for all cores")
    threads = threads or usable_cores()
    chosen = choose_precision(bundle, backend, precision)
    if backend == "paddle":
        return PaddleSession(bundle.file(PADDLE_PROGRAM), bundle.file(PADDLE_WEIGHTS), threads)
    path = bundle.file(INT8 if chosen == "int8" else ONNX)
    session = OpenVinoSession(path, threads) if backend == "openvino" else OnnxSession(path, threads, chosen == "int8")
    classes = len(getattr(bundle.spec, "classes", ()))
    if classes and session.classes != classes:
        raise SlimError(
            f"{path} has {session.classes} classes and its inference.yml {classes}: "
            "they do not belong together; export the bundle again"
        )
    return session


def choose_precision(bundle: Bundle, backend: str, precision: str = "auto") -> str:
    """ "fp32" or "int8": what `open_session` takes; SlimError for a precision that `backend` does not have."""
    if precision not in PRECISIONS:
        raise SlimError(f"the precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if precision == "int8" and backend == "paddle":
        raise SlimError("Paddle Inference runs no INT8 bundle: take the backend onnxruntime or openvino")
    alone = backend != "paddle" and INT8 in bundle.sizes and ONNX not in bundle.sizes
    chosen = precision
    if precision == "auto":
        chosen = "int8" if alone else bundle.precision.get(backend, "fp32")
    is_wide = INT8 in bundle.sizes and bundle.int8_weight_bits > SAFE_BITS
    if chosen == "int8" and is_wide and overflows(cpuinfo(), platform.machine()):
        if precision == "auto" and not alone:
            logger.warning("%s: read in FP32, as INT8 weights of 8 bits overflow on this processor", bundle.folder)
            return "fp32"
        logger.warning("%s: INT8 weights of 8 bits overflow on this processor: what is read is wrong", bundle.folder)
    return chosen


def overflows(processor: str, machine: str) -> bool:
    """Whether a processor adds products of 8-bit numbers in pairs to 16 bits, saturating: an x86 one without VNNI.

    ONNX Runtime and OpenVINO take the instruction VPMADDUBSW there: 2 x 255 x 127 does not fit, 2 x 255 x 63 does. An
    unknown x86 processor is taken for one of these.

    Args:
        processor: /proc/cpuinfo, or "".
        machine: as `platform.machine` names it.
    """
    if machine.lower() not in ("x86_64", "amd64", "i686", "x86"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & set(processor.split("\n\n")[0].split())
