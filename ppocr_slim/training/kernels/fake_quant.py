"""Fake quantization as in `models.fake_quant`, forward and backward, each in one pass over the memory.

Quotients are true divisions: multiplying by a reciprocal would round some values to the other neighbour than ONNX does.
"""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import contiguous, empty, floats, wanted, where
from ppocr_slim.training.kernels.planes import KERNEL

ROUNDING = {**KERNEL, "fastmath": {"reassoc", "contract", "nsz"}}
PART = 4096  # values whose sum is taken in single precision


@njit(inline="always")
def quantize_dequantize(value, scale, low, top):
    """Return a number quantized to an integer of low ... top times `scale`; a NaN stays one."""
    q = np.rint(value / scale)
    q = low if q < low else q
    q = top if q > top else q
    return q * scale


@njit(**ROUNDING)
def _quantize_dequantize(size, x, scale, low, top, out):
    """Quantize and dequantize x [size] to out, both addresses; the integers are from low to top."""
    x, out = floats(x, size), floats(out, size)
    for i in range(size):
        out[i] = quantize_dequantize(x[i], scale, low, top)


@njit(**ROUNDING)
def _clip_backward(size, x, clip, low, grad, grad_x):
    """Write grad_x; return the gradient of the clip, whose range is from low * clip to clip."""
    x, grad, grad_x = floats(x, size), floats(grad, size), floats(grad_x, size)
    bottom, total, zero = clip * low, 0.0, np.float32(0.0)
    for start in range(0, size, PART):
        stop = min(size, start + PART)
        given, incoming, result = x[start:stop], grad[start:stop], grad_x[start:stop]
        above, below = zero, zero
        for i in range(given.size):
            over, under = given[i] >= clip, given[i] < bottom
            above += incoming[i] if over else zero
            below += incoming[i] if under else zero
            result[i] = zero if over or under else incoming[i]
        total += above + below * low
    return total


class ClipFunction(PyLayer):
    """Fake quantization of a `ClipQuantizer`: x of any shape with its clip [1], float32 on the CPU.

    `low`: lower end of the range as a multiple of the clip; `top`: the largest integer.
    """

    @staticmethod
    def forward(ctx, x, clip, low, top):
        ctx.wanted = wanted([x, clip])
        x, out = contiguous(x), empty(x.shape)
        end, top = np.float32(clip.item()), np.float32(top)
        _quantize_dequantize(int(x.size), x.data_ptr(), end / top, np.rint(low * top), top, out.data_ptr())
        ctx.save_for_backward(x)
        ctx.ends = end, np.float32(low)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensor()
        by_x, incoming = empty(x.shape), contiguous(grad)
        total = _clip_backward(int(x.size), x.data_ptr(), *ctx.ends, incoming.data_ptr(), by_x.data_ptr())
        return where(ctx.wanted, [by_x, paddle.full([1], total)])


@njit(**ROUNDING)
def _lsq_backward(size, x, scale, low, top, grad, grad_x):
    """Write grad_x; return the gradients of the scale and of the zero point."""
    x, grad, grad_x = floats(x, size), floats(grad, size), floats(grad_x, size)
    by_scale = by_offset = 0.0
    zero = np.float32(0.0)
    for start in range(0, size, PART):
        stop = min(size, start + PART)
        given, incoming, result = x[start:stop], grad[start:stop], grad_x[start:stop]
        a, b = zero, zero
        for i in range(given.size):
            v = given[i] / scale
            q = np.rint(v)
            under, over = q < low, q > top
            g = incoming[i]
            result[i] = zero if under or over else g
            b += g if under or over else zero
            a += g * (low if under else top if over else q - v)
        by_scale += a
        by_offset -= b * scale
    return by_scale, by_offset


class LsqFunction(PyLayer):
    """Fake quantization of an `LsqQuantizer`: x of any shape with its step [1] and offset ([1] or None), float32, CPU.

    `levels`: the largest integer. The gradients of step and offset are multiplied by `grad_scale`.
    """

    @staticmethod
    def forward(ctx, x, step, offset, levels, grad_scale):
        ctx.wanted = wanted([x, step] if offset is None else [x, step, offset])
        zero_point = 0.0 if offset is None else np.rint(offset.item())
        ctx.params = np.float32(step.item()), np.float32(-zero_point), np.float32(levels - zero_point)
        ctx.grad_scale = grad_scale
        x, out = contiguous(x), empty(x.shape)
        _quantize_dequantize(int(x.size), x.data_ptr(), *ctx.params, out.data_ptr())
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensor()
        by_x, incoming = empty(x.shape), contiguous(grad)
        sums = _lsq_backward(int(x.size), x.data_ptr(), *ctx.params, incoming.data_ptr(), by_x.data_ptr())
        gradients = [by_x, *(paddle.full([1], total * ctx.grad_scale) for total in sums)]
        return where(ctx.wanted, gradients)


@njit(**ROUNDING)
def _quantize_weights(shape, weight, share, top, smallest, out):
    """Quantize and dequantize weights symmetrically by output channel; shape: (output channels, weights of each)."""
    weight, share, out = floats(weight, shape), floats(share, shape[0]), floats(out, shape)
    for c in range(shape[0]):
        row, result = weight[c], out[c]
        largest = np.float32(0.0)
        for i in range(row.size):
            size = abs(row[i])
            largest = largest if largest > size else size
        scale = largest * share[c] / top
        scale = smallest if scale < smallest else scale
        for i in range(row.size):
            result[i] = quantize_dequantize(row[i], scale, -top, top)


class WeightFunction(PyLayer):
    """Fake quantization of a `WeightQuantizer`: weights [channels, ...], float32 on the CPU.

    `share` [channels] is the fraction of a channel's largest weight that the range takes in, `top` the largest integer,
    `smallest` the least scale.
    """

    @staticmethod
    def forward(ctx, weight, share, top, smallest):
        ctx.wanted = wanted([weight])
        weight = contiguous(weight)
        out, channels = empty(weight.shape), weight.shape[0]
        shape = (channels, int(weight.size) // channels)
        places = weight.data_ptr(), share.data_ptr()
        _quantize_weights(shape, *places, np.float32(top), np.float32(smallest), out.data_ptr())
        return out

    @staticmethod
    def backward(ctx, grad):
        return (*where(ctx.wanted, [grad]), None)
