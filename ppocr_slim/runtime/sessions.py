"""Sessions on exported bundles: the choice of the file that an engine runs."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np

from ppocr_slim.engines import session as engines
from ppocr_slim.engines.cpu import SAFE_BITS, cpuinfo, overflows
from ppocr_slim.engines.session import Session
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.runtime.bundle import INT8, ONNX, PADDLE_PROGRAM, Bundle

Predict = Callable[[np.ndarray], np.ndarray]
"""x [N, 3, H, W] float32 -> probabilities float32: [N, T, K] of a recognizer, [N, 1, H, W] of a detector, [N, 2] of a
direction classifier. An engine's `Session` is one, and so is a checkpoint's network (`tasks.task.Task.session`)."""

PRECISIONS = ("auto", "fp32", "int8")


def open_bundle_session(
    bundle: Bundle, engine: str = "onnxruntime", threads: int | None = None, precision: str = "auto"
) -> Session:
    """Open the file of a bundle that suits an engine.

    Args:
        bundle: a bundle of any task.
        engine: one of `ENGINES`.
        threads: by default as many as there are cores.
        precision: "fp32", "int8", or "auto": the one that was faster with this engine when the bundle was exported;
            never an INT8 file that this processor computes wrong (see `overflows`) where there is FP32.

    Raises:
        SlimError: an unknown engine, one that is not installed, or a file that it cannot load or that is not there.
    """
    engines.check_engine(engine)
    chosen = choose_precision(bundle, engine, precision)
    path = bundle.file(PADDLE_PROGRAM if engine == "paddle" else INT8 if chosen == "int8" else ONNX)
    session = engines.open_session(path, engine, threads, by_sample=chosen == "int8")
    classes, shape = len(getattr(bundle.spec, "classes", ())), session.outputs[0].shape
    if classes and shape is not None and shape[-1] != classes:
        raise SlimError(
            f"{path} has {shape[-1]} classes and its inference.yml {classes}: "
            "they do not belong together; export the bundle again"
        )
    return session


def choose_precision(bundle: Bundle, engine: str, precision: str = "auto") -> str:
    """Return the precision that `open_bundle_session` takes: "fp32" or "int8".

    Raises:
        SlimError: an unknown precision, or one that the engine does not have.
    """
    if precision not in PRECISIONS:
        raise SlimError(f"the precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    if precision == "int8" and engine == "paddle":
        raise SlimError("Paddle Inference cannot run an INT8 bundle: choose the engine onnxruntime or openvino")
    alone = engine != "paddle" and INT8 in bundle.sizes and ONNX not in bundle.sizes
    chosen = precision
    if precision == "auto":
        chosen = "int8" if alone else bundle.precision.get(engine, "fp32")
    is_wide = INT8 in bundle.sizes and bundle.int8_activations and bundle.int8_weight_bits > SAFE_BITS
    if chosen == "int8" and is_wide and overflows(cpuinfo(), platform.machine()):
        if precision == "auto" and not alone:
            logger.warning("%s: runs in FP32, because INT8 weights of 8 bits overflow on this processor", bundle.folder)
            return "fp32"
        logger.warning("%s: INT8 weights of 8 bits overflow on this processor: its results are wrong", bundle.folder)
    return chosen
