"""Post-training quantization of an FP32 ONNX file, calibrated on some images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.engines.onnxruntime import fused_operators
from ppocr_slim.engines.session import open_session
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.quantization.calibration import calibrate
from ppocr_slim.quantization.qdq_writer import write_int8
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import line_input, median_line, resize_to_height

TIMING_ROUNDS = 30
TIMED_ENGINES = ("onnxruntime", "openvino")
INTEGER_OPERATORS = (
    "QLinearConv",
    "QLinearAdd",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "QGemm",
    "DynamicQuantizeLSTM",
)


@dataclass(frozen=True)
class QuantizationReport:
    """The result of a post-training quantization.

    Attributes:
        out: the INT8 file.
        sizes: bytes of the FP32 and the INT8 file.
        layers: number of quantized layers.
        difference: mean absolute difference of the outputs on the images.
        operators: operators that ONNX Runtime runs the INT8 file with, and how many of each.
        times: latency by engine, see `engines.timing.compared`; empty if not timed.
    """

    out: Path
    sizes: tuple[int, int]
    layers: int
    difference: float
    operators: Mapping[str, int]
    times: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        before, after = self.sizes
        integer = ", ".join(f"{self.operators[name]} {name}" for name in INTEGER_OPERATORS if name in self.operators)
        float_convolutions = sum(self.operators.get(name, 0) for name in ("Conv", "FusedConv"))
        lines = [
            f"wrote {self.out}: {after / 1e6:.2f} MB, {after / before:.0%} of {before / 1e6:.2f} MB",
            f"  {self.layers} layers quantized; outputs differ by {self.difference:.2g} on average",
            f"  ONNX Runtime runs {integer or 'no integer operator'}; {float_convolutions} float convolutions",
        ]
        for engine, time in self.times.items():
            lines.append(
                f"  {engine}: {time['ms']:.2f} ms, FP32 {time['base_ms']:.2f} ms, {time['ratio']:.2f} times as long"
            )
        return "\n".join(lines)


def quantize_file(
    source: Path,
    out: Path,
    images: Sequence[Path],
    height: int | None = None,
    weight_bits: int = SAFE_BITS,
    float_layers: Sequence[str] = (),
    timed: bool = False,
    activations: bool = True,
) -> QuantizationReport:
    """Quantize an FP32 ONNX file of a recognizer, [N, 3, H, W] in -1 to 1, to INT8.

    Args:
        source: the FP32 file.
        out: the INT8 file to write.
        images: images of text lines, of any size, to calibrate on.
        height: height that they are resized to; None for the network's own.
        weight_bits: see `write_int8`.
        float_layers: see `calibrate`.
        timed: whether to compare the latency of both files in each installed engine.
        activations: see `write_int8`.

    Returns:
        Sizes, differences, operators and latencies.

    Raises:
        SlimError: there is no image, one cannot be read, or the height is unknown; also what `calibrate` and
            `write_int8` raise.
    """
    if not images:
        raise SlimError("calibration needs at least one image")
    if out.resolve() == source.resolve():
        raise SlimError(f"{out} is the FP32 file itself: choose another name for the INT8 file")
    height = height or _height(source)
    lines = [resize_to_height(load_image(path), height) for path in images]
    inputs = [line_input(line) for line in lines]
    params = calibrate(source, inputs, float_layers)
    write_int8(source, out, params, weight_bits, activations)
    sessions = [open_session(path) for path in (source, out)]
    differences = [np.abs(sessions[0](x) - sessions[1](x)).mean() for x in inputs]
    typical = line_input(median_line(lines))
    return QuantizationReport(
        out,
        (source.stat().st_size, out.stat().st_size),
        len(params),
        float(np.mean(differences)),
        fused_operators(out),
        time_files(source, out, typical) if timed else {},
    )


def time_files(
    fp32: Path, int8: Path, x: np.ndarray, threads: int | None = None, rounds: int = TIMING_ROUNDS
) -> dict[str, dict[str, float]]:
    """Time both files on an input, by turns, in each installed engine.

    Args:
        fp32: the FP32 file.
        int8: the INT8 file.
        x: the input.
        threads: of the engine; None for its default.
        rounds: how often each is run.

    Returns:
        Engine -> "ms" of INT8, "base_ms" of FP32, and their "ratio".
    """
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for engine in TIMED_ENGINES:
        try:
            opened = {path: open_session(path, engine, threads) for path in (fp32, int8)}
        except SlimError as error:
            logger.warning("not timed in %s: %s", engine, error)
            continue
        calls.update({(engine, str(path)): partial(one, x) for path, one in opened.items()})
    times = time_in_turns(calls, rounds)
    return {
        name: compared(times[name, str(int8)], times[name, str(fp32)]) for name in dict.fromkeys(n for n, _ in calls)
    }


def _height(source: Path) -> int:
    try:
        inputs = onnx.load(str(source), load_external_data=False).graph.input
        shape: list[int] = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
    except OSError as error:
        raise SlimError(f"cannot read {source}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError, whose module differs; no input at all
        raise SlimError(f"{source} is not an ONNX file of a network: export it again") from error
    if len(shape) != 4 or shape[1] != 3:
        raise SlimError(f"{source} does not read images: its input has the shape {shape}, not [N, 3, H, W]")
    if not shape[2]:
        raise SlimError(f"{source} takes images of any height: set the height that it was trained with (--height)")
    return shape[2]
