"""Quantization parameters: how real numbers become integers, as plain arrays.

Fake quantization in training (`models.fake_quant`), calibration (`quantization.calibration`) and the writer of INT8
files (`quantization.qdq_writer`) share them; neither Paddle nor ONNX is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_RANGE = 1e-6  # a range that is learned or measured is never smaller
MIN_FOLDED_SCALE = np.float32(1e-30)  # of a channel whose batch norm has a factor of 0
FINE_BITS = 7  # with fewer weight bits the units of integer biases are too coarse
CLIP_RATIOS = np.geomspace(0.03, 1, 48).astype(np.float32)  # of the largest value: candidates for the end of the range


@dataclass(frozen=True)
class QuantParams:
    """Affine quantization of a tensor: x is about (q - zero_point) * scale.

    Attributes:
        scale: [] float32 for a whole tensor, [channels] for one scale per output channel.
        bits: 2 to 8.
        zero_point: the integer that represents 0. For activations it is 0 if they are never negative, else
            2^(bits - 1) (LSQ+ learns it: any integer), and q is 0 to 2^bits - 1. For weights it is 0, and q is
            -(2^(bits - 1) - 1) to 2^(bits - 1) - 1; weights beyond that are clipped.
    """

    scale: np.ndarray
    bits: int
    zero_point: int = 0


@dataclass(frozen=True)
class LayerQuantParams:
    """Quantization parameters of one layer, which is named by its path in the network ("backbone.stem.0").

    Attributes:
        inputs: of each input: one for a convolution or linear layer, two for an addition, none where only the
            weights are quantized (an LSTM).
        weight: of the weights as the network holds them (batch norm not folded in); None for an addition. An LSTM's
            weights are quantized by the writer, to `SAFE_BITS`, with a scale per matrix row.
        integer_bias: whether the bias is quantized too. In a fake-quantized network the bias of a batch norm is, a
            layer's own bias is not.
    """

    inputs: tuple[QuantParams, ...]
    weight: QuantParams | None = None
    integer_bias: bool = True


def activation_limit(bits: int, zero_point: int) -> int:
    """Return the largest value of quantized activations in units of the scale."""
    return 2**bits - 1 - zero_point


def weight_limit(bits: int) -> int:
    """Return the largest value of quantized weights in units of the scale."""
    return 2 ** (bits - 1) - 1


def best_scales(
    values: np.ndarray, widest: np.ndarray, low: int, high: int, ratios: np.ndarray = CLIP_RATIOS
) -> np.ndarray:
    """Return for each channel the scale whose rounding has the least squared error.

    Args:
        values: [C, V].
        widest: the largest scale to try, [C].
        low: the smallest integer.
        high: the largest integer.
        ratios: fractions of `widest` to try; of equally good ones the first wins.

    Returns:
        [C] float32, never 0.
    """
    candidates = ratios[:, None] * np.maximum(widest, MIN_RANGE).astype(np.float32)
    errors = [
        np.square(np.clip(np.rint(values / scale[:, None]), low, high) * scale[:, None] - values).sum(axis=1)
        for scale in candidates
    ]
    return candidates[np.argmin(errors, axis=0), np.arange(len(values))]


def best_scale(values: np.ndarray, widest: float, low: int, high: int, ratios: np.ndarray = CLIP_RATIOS) -> float:
    """Return the scale of a whole tensor's values [V]; see `best_scales`."""
    return float(best_scales(values[None], np.array([widest]), low, high, ratios)[0])
