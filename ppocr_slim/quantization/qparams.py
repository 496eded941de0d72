"""Quantization parameters: how real numbers become integers, as plain arrays.

Fake quantization in training (`models.fake_quant`), calibration (`quantization.calibration`) and the writer of INT8
files (`quantization.qdq_writer`) use the same ones; neither framework knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_RANGE = 1e-6  # a range that is learned or measured never falls below
CLIP_RATIOS = np.geomspace(0.03, 1, 48).astype(np.float32)  # of the largest value, where the integers may end


@dataclass(frozen=True)
class QuantParams:
    """Affine quantization of a tensor: x is about (q - zero_point) * scale.

    Attributes:
        scale: [] float32 for a whole tensor, [channels] for one scale an output channel.
        bits: 2 to 8.
        zero_point: the integer that stands for 0. Activations: 0 for what is never negative, else 2^(bits - 1) (LSQ+
            learns it: any integer), and q is 0 to 2^bits - 1. Weights: 0, and q is -(2^(bits - 1) - 1) to
            2^(bits - 1) - 1: some lie beyond the scale's end and are clipped.
    """

    scale: np.ndarray
    bits: int
    zero_point: int = 0


@dataclass(frozen=True)
class LayerQuantParams:
    """Quantization parameters of one layer, named by its path in the network ("backbone.stem.0").

    Attributes:
        inputs: of each input: one for a convolution or linear layer, two for an addition, none where only the
            weights are quantized (an LSTM).
        weight: of the weights as the network holds them (batch norm not folded in); None for an addition. An LSTM's
            weights are rounded row by row by the writer, to `SAFE_BITS`.
        integer_bias: whether the bias becomes integers, too. In a fake-quantized network what a batch norm adds does,
            a layer's own bias does not.
    """

    inputs: tuple[QuantParams, ...]
    weight: QuantParams | None = None
    integer_bias: bool = True


def activation_limit(bits: int, zero_point: int) -> int:
    """Return the largest number that quantized activations can be, in scales."""
    return 2**bits - 1 - zero_point


def weight_limit(bits: int) -> int:
    """Return the largest number that quantized weights can be, in scales."""
    return 2 ** (bits - 1) - 1


def best_scales(
    values: np.ndarray, widest: np.ndarray, low: int, high: int, ratios: np.ndarray = CLIP_RATIOS
) -> np.ndarray:
    """Return for each row of values the scale with the least squared error of rounding to low ... high times it.

    Args:
        values: [R, V].
        widest: [R], what the scales are at most.
        ratios: of `widest`, which are tried; of equally good ones the first wins.

    Returns:
        [R] float32, never 0.
    """
    candidates = ratios[:, None] * np.maximum(widest, MIN_RANGE).astype(np.float32)
    errors = [
        np.square(np.clip(np.rint(values / scale[:, None]), low, high) * scale[:, None] - values).sum(axis=1)
        for scale in candidates
    ]
    return candidates[np.argmin(errors, axis=0), np.arange(len(values))]


def best_scale(values: np.ndarray, widest: float, low: int, high: int, ratios: np.ndarray = CLIP_RATIOS) -> float:
    """Return `best_scales` of one row of values [V]."""
    return float(best_scales(values[None], np.array([widest]), low, high, ratios)[0])
