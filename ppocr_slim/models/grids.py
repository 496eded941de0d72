"""The integer grids on which a quantized network computes, as plain arrays: what an INT8 file is written from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear

from ppocr_slim.models.fake_quant import SMALLEST, input_quantizers, quantized_layers

SHARES = np.geomspace(0.03, 1, 48).astype(np.float32)  # of the largest value, where a grid may end


@dataclass(frozen=True)
class QuantParams:
    """Real numbers as integers: x is about (q - zero_point) * scale.

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
    """The grids of one layer, named by its path in the network ("backbone.stem.0").

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


def quant_params_of(model: nn.Layer) -> dict[str, LayerQuantParams]:
    """The grids of a fake-quantized network's layers, by path; empty for a float network."""
    return {path: _grids(layer) for path, layer in quantized_layers(model).items()}


def _grids(layer: nn.Layer) -> LayerQuantParams:
    inputs = tuple(
        QuantParams(quantizer.scale().numpy().reshape([]), quantizer.bits, quantizer.zero_point())
        for quantizer in input_quantizers(layer)
    )
    if not isinstance(layer, (QuantizedConv2D, QuantizedLinear)):
        return LayerQuantParams(inputs)
    quantizer = layer._fake_quant_weight
    return LayerQuantParams(
        inputs, QuantParams(quantizer.scale(layer.weight).numpy(), quantizer.bits), layer.bias is None
    )


def best_scales(rows: np.ndarray, widest: np.ndarray, low: int, top: int, shares: np.ndarray = SHARES) -> np.ndarray:
    """For each of rows [R, V], the scale that rounds it to low ... top times it with the least squared error.

    widest [R]: what scales are at most; tried are `shares` of it, of equal ones the first wins. Gives [R] float32,
    never 0.
    """
    candidates = shares[:, None] * np.maximum(widest, SMALLEST).astype(np.float32)
    errors = [
        np.square(np.clip(np.rint(rows / scale[:, None]), low, top) * scale[:, None] - rows).sum(axis=1)
        for scale in candidates
    ]
    return candidates[np.argmin(errors, axis=0), np.arange(len(rows))]


def best_scale(values: np.ndarray, widest: float, low: int, top: int, shares: np.ndarray = SHARES) -> float:
    """`best_scales` of one row [V]."""
    return float(best_scales(values[None], np.array([widest]), low, top, shares)[0])
