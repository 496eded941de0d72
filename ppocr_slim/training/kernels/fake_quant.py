"""Rounding to the grids of `models.fake_quant`, forward and backward, each in one pass over the memory.

Quotients are true ones: multiplying by a reciprocal would round some numbers to the other neighbour than ONNX does.
"""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import contiguous, empty, floats, wanted, where
from ppocr_slim.training.kernels.planes import KERNEL

ROUNDING = {**KERNEL, "fastmath": {"reassoc", "contract", "nsz"}}
PART = 4096  # numbers whose sum is taken in single precision


@njit(inline="always")
def snap(value, scale, low, top):
    """Return the number's nearest point of a grid of low ... top scales; a NaN stays one."""
    q = np.rint(value / scale)
    q = low if q < low else q
    q = top if q > top else q
    return q * scale


@njit(**ROUNDING)
def _round(size, x, scale, low, top, out):
    """x and out are addresses; low and top are numbers of scales."""
    x, out = floats(x, size), floats(out, size)
    for i in range(size):
        out[i] = snap(x[i], scale, low, top)


@njit(**ROUNDING)
def _clip_backward(size, x, clip, low, grad, grad_x):
    """Writes grad_x.

    Returns:
        The gradient of the clip, whose grid ends at low clips below.
    """
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
    """What a `ClipQuantizer` does to x of any shape with its clip [1], float32 on the CPU.

    `low`: its lower end in clips; `top`: its upper end in scales.
    """

    @staticmethod
    def forward(ctx, x, clip, low, top):
        ctx.wanted = wanted([x, clip])
        x, out = contiguous(x), empty(x.shape)
        end, top = np.float32(clip.item()), np.float32(top)
        _round(int(x.size), x.data_ptr(), end / top, np.rint(low * top), top, out.data_ptr())
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
def _step_backward(size, x, scale, low, top, grad, grad_x):
    """Writes grad_x.

    Returns:
        The gradients of the scale and of the zero point.
    """
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


class StepFunction(PyLayer):
    """What an `LsqQuantizer` does to x of any shape with its step [1] and offset ([1] or None), float32 on the CPU.

    `levels`: the largest q. The gradients of step and offset are multiplied by `share`.
    """

    @staticmethod
    def forward(ctx, x, step, offset, levels, share):
        ctx.wanted = wanted([x, step] if offset is None else [x, step, offset])
        zero_point = 0.0 if offset is None else np.rint(offset.item())
        ctx.grid = np.float32(step.item()), np.float32(-zero_point), np.float32(levels - zero_point)
        ctx.share = share
        x, out = contiguous(x), empty(x.shape)
        _round(int(x.size), x.data_ptr(), *ctx.grid, out.data_ptr())
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensor()
        by_x, incoming = empty(x.shape), contiguous(grad)
        sums = _step_backward(int(x.size), x.data_ptr(), *ctx.grid, incoming.data_ptr(), by_x.data_ptr())
        gradients = [by_x, *(paddle.full([1], total * ctx.share) for total in sums)]
        return where(ctx.wanted, gradients)


@njit(**ROUNDING)
def _weights(shape, weight, share, top, smallest, out):
    """shape: (output channels, weights of each)."""
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
            result[i] = snap(row[i], scale, -top, top)


class WeightFunction(PyLayer):
    """What a `WeightQuantizer` does to weights [channels, ...], float32 on the CPU."""

    @staticmethod
    def forward(ctx, weight, share, top, smallest):
        ctx.wanted = wanted([weight])
        weight = contiguous(weight)
        out, channels = empty(weight.shape), weight.shape[0]
        shape = (channels, int(weight.size) // channels)
        places = weight.data_ptr(), share.data_ptr()
        _weights(shape, *places, np.float32(top), np.float32(smallest), out.data_ptr())
        return out

    @staticmethod
    def backward(ctx, grad):
        return (*where(ctx.wanted, [grad]), None)
