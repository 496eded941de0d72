"""A fast depthwise convolution for training on a CPU, behind the ordinary `nn.Conv2D`.

Paddle's own CPU kernel visits every output with nested loops over the taps and takes more than half of a training
step of a MobileNet. Here one row is computed at a time: all taps of a filter row in one pass over a padded row that
stays in the first-level cache, a loop that the compiler turns into vector instructions. A column stride is taken out
at the end, since strided reads would cost more than the extra columns.

Models stay plain: `accelerate` swaps the forward of the depthwise layers of one model object, so export, pruning and
quantization of any other copy see the usual layer.
"""

from __future__ import annotations

import ctypes

import numpy as np
import paddle
from numba import njit
from paddle import nn
from paddle.autograd import PyLayer

KERNEL_SIZES = (3, 5, 7)


@njit(inline="always")
def _add_row(total, row, taps, width):
    """total[c] += sum_j taps[j] * row[c + j], the taps of one filter row in one pass."""
    if taps.size == 3:
        a, b, c = taps[0], taps[1], taps[2]
        for i in range(width):
            total[i] += a * row[i] + b * row[i + 1] + c * row[i + 2]
    elif taps.size == 5:
        a, b, c, d, e = taps[0], taps[1], taps[2], taps[3], taps[4]
        for i in range(width):
            total[i] += a * row[i] + b * row[i + 1] + c * row[i + 2] + d * row[i + 3] + e * row[i + 4]
    else:
        for j in range(taps.size):
            tap = taps[j]
            for i in range(width):
                total[i] += tap * row[i + j]


@njit(inline="always")
def _add_products(sums, row, grad, width):
    """sums[j] += sum_c grad[c] * row[c + j]: the gradient of one filter row, in one pass for the usual sizes."""
    a = b = c = d = e = np.float32(0.0)
    if sums.size == 3:
        for i in range(width):
            g = grad[i]
            a += g * row[i]
            b += g * row[i + 1]
            c += g * row[i + 2]
        sums[0] += a
        sums[1] += b
        sums[2] += c
    elif sums.size == 5:
        for i in range(width):
            g = grad[i]
            a += g * row[i]
            b += g * row[i + 1]
            c += g * row[i + 2]
            d += g * row[i + 3]
            e += g * row[i + 4]
        sums[0] += a
        sums[1] += b
        sums[2] += c
        sums[3] += d
        sums[4] += e
    else:
        for j in range(sums.size):
            a = np.float32(0.0)
            for i in range(width):
                a += grad[i] * row[i + j]
            sums[j] += a


@njit(inline="always")
def _pad_plane(padded, plane, padding):
    """Copy a plane [H, W] into the middle of `padded`, whose border is zero already."""
    for r in range(plane.shape[0]):
        for c in range(plane.shape[1]):
            padded[r + padding, c + padding] = plane[r, c]


@njit(fastmath=True, nogil=True, cache=True)
def _forward(x, weight, stride_h, stride_w, padding, out):
    kernel = weight.shape[2]
    height, width = x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
    full = width - kernel + 1  # columns of the result at stride 1
    padded = np.zeros((height, width), np.float32)
    total = np.empty(full, np.float32)
    for n in range(x.shape[0]):
        for ch in range(x.shape[1]):
            _pad_plane(padded, x[n, ch], padding)
            for r in range(out.shape[2]):
                total[:] = 0.0
                for i in range(kernel):
                    _add_row(total, padded[r * stride_h + i], weight[ch, 0, i], full)
                if stride_w == 1:
                    out[n, ch, r, :] = total
                else:
                    for c in range(out.shape[3]):
                        out[n, ch, r, c] = total[c * stride_w]


@njit(fastmath=True, nogil=True, cache=True)
def _backward(x, weight, grad, stride_h, stride_w, padding, grad_x, grad_weight):
    kernel = weight.shape[2]
    height, width = x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
    full = width - kernel + 1
    padded = np.zeros((height, width), np.float32)
    grad_padded = np.empty((height, width), np.float32)
    # The output's gradient, spread to stride 1 and with kernel - 1 zeros on both sides, so that the input's gradient
    # is the same gathering pass with the taps reversed.
    spread = np.zeros(full + 2 * (kernel - 1), np.float32)
    middle = spread[kernel - 1 : kernel - 1 + full]
    reversed_taps = np.empty(kernel, np.float32)
    for n in range(x.shape[0]):
        for ch in range(x.shape[1]):
            _pad_plane(padded, x[n, ch], padding)
            grad_padded[:] = 0.0
            for r in range(grad.shape[2]):
                if stride_w == 1:
                    middle[:] = grad[n, ch, r]
                else:
                    for c in range(grad.shape[3]):
                        middle[c * stride_w] = grad[n, ch, r, c]
                for i in range(kernel):
                    for j in range(kernel):
                        reversed_taps[j] = weight[ch, 0, i, kernel - 1 - j]
                    _add_row(grad_padded[r * stride_h + i], spread, reversed_taps, width)
                    _add_products(grad_weight[ch, 0, i], padded[r * stride_h + i], middle, full)
            for r in range(x.shape[2]):
                for c in range(x.shape[3]):
                    grad_x[n, ch, r, c] = grad_padded[r + padding, c + padding]


def _view(tensor) -> np.ndarray:
    """A contiguous float32 CPU tensor as an array over the same memory."""
    return np.from_dlpack(tensor.detach().contiguous())


def _writable(tensor) -> np.ndarray:
    """The same of a fresh tensor, to be written (what DLPack gives numpy is read-only). Keep the tensor alive."""
    memory = (ctypes.c_float * int(tensor.size)).from_address(tensor.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(tensor.shape)


class DepthwiseFunction(PyLayer):
    """Depthwise convolution of x [N, C, H, W] with weight [C, 1, k, k], float32 on the CPU -> [N, C, H', W'].

    Results live in Paddle's own memory, which is aligned: MKL sums in another order where it is not, and two runs
    from one seed would drift apart.
    """

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        kernel = weight.shape[2]
        rows = (x.shape[2] + 2 * padding - kernel) // stride[0] + 1
        columns = (x.shape[3] + 2 * padding - kernel) // stride[1] + 1
        out = paddle.empty([x.shape[0], x.shape[1], rows, columns])
        _forward(_view(x), _view(weight), stride[0], stride[1], padding, _writable(out))
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        grad_x, grad_weight = paddle.empty_like(x), paddle.zeros_like(weight)
        _backward(
            _view(x),
            _view(weight),
            _view(grad),
            ctx.stride[0],
            ctx.stride[1],
            ctx.padding,
            _writable(grad_x),
            _writable(grad_weight),
        )
        return grad_x, grad_weight


def _suits(layer: nn.Layer) -> bool:
    if type(layer) is not nn.Conv2D or layer._groups == 1:
        return False
    channels, per_group, height, width = layer.weight.shape
    return (
        layer._groups == channels == layer._in_channels
        and per_group == 1
        and height == width
        and height in KERNEL_SIZES
        and layer.bias is None
        and list(layer._dilation) == [1, 1]
        and layer._padding_mode == "zeros"
        and layer._data_format == "NCHW"
        and isinstance(layer._padding, int)
        and layer.weight.dtype == paddle.float32
    )


def accelerate(model: nn.Layer) -> int:
    """Let the depthwise convolutions of `model` that suit run through the fast kernels; gives their number.

    On another device, another dtype or while a static graph is traced, the layer's own forward runs.
    """
    count = 0
    for layer in model.sublayers(include_self=True):
        if not _suits(layer):
            continue
        count += 1
        own_forward = layer.forward
        stride = tuple(layer._stride)

        def forward(x, layer=layer, own_forward=own_forward, stride=stride):
            if paddle.in_dynamic_mode() and x.place.is_cpu_place() and x.dtype == paddle.float32:
                return DepthwiseFunction.apply(x, layer.weight, stride, layer._padding)
            return own_forward(x)

        layer.forward = forward
    return count
