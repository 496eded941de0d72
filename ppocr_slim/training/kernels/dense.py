"""Dense convolutions with kernels of several pixels, for training on a CPU.

Paddle copies every pixel's neighbourhood into a matrix that is multiplied once (im2col): of a 3x3 kernel nine times the
feature map goes to memory and back. Here an image is copied once, with zeros around it and its pixel rows end to end. A
kernel's tap then sees the same memory, begun a few numbers later, so a convolution is a sum of matrix products, one for
each tap. It proceeds by strips of pixels that stay in the second-level cache through all taps.
"""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import aligned, contiguous, empty, floats, view, wanted, where
from ppocr_slim.training.kernels.mkl import SGEMM, multiply
from ppocr_slim.training.kernels.planes import KERNEL

STRIP = 2048  # pixels


@njit(inline="always")
def _pad(image, reach, padded):
    """Copy image [C, H, W] to padded [C, (H + 2 reach) (W + 2 reach) + 2 reach], whose rim is zero already."""
    channels, height, width = image.shape
    pitch = width + 2 * reach
    for c in range(channels):
        plane, row = image[c], padded[c]
        for y in range(height):
            first = (y + reach) * pitch + reach
            for x in range(width):
                row[first + x] = plane[y, x]


@njit(**KERNEL)
def _convolve(sgemm, shape, x, taps, padded, strip, out):
    """Write out[n, o] = sum over taps and c of taps[tap, o, c] x[n, c], shifted by the tap; x and out are addresses.

    shape: N, C, O, H, W; taps [k k, O, C]; padded: see `_pad`; strip [O, STRIP]: memory.
    """
    n, inputs, outputs, height, width = shape
    side = int(np.sqrt(taps.shape[0]))
    reach = side // 2
    pitch = width + 2 * reach
    x, out = floats(x, (n, inputs, height, width)), floats(out, (n, outputs, height, width))
    for image in range(n):
        _pad(x[image], reach, padded)
        for first in range(0, height * pitch, strip.shape[1]):
            count = min(strip.shape[1], height * pitch - first)
            for tap in range(taps.shape[0]):
                begin = first + tap // side * pitch + tap % side
                source = (padded[0, begin:], padded.shape[1])
                product = (outputs, inputs, count)
                multiply(sgemm, (taps[tap], inputs), source, (strip, strip.shape[1]), product, 0.0 if tap == 0 else 1.0)
            for y in range(first // pitch, (first + count - 1) // pitch + 1):
                low, high = max(y * pitch, first), min(y * pitch + width, first + count)
                for o in range(outputs):
                    row, result = out[image, o, y], strip[o]
                    for i in range(low, high):
                        row[i - y * pitch] = result[i - first]


@njit(**KERNEL)
def _convolve_backward(sgemm, shape, x, grad, padded, strip, grad_taps):
    """Add the gradient of the taps to grad_taps [k k, O, C], by the output's gradient; arguments as of `_convolve`."""
    n, inputs, outputs, height, width = shape
    side = int(np.sqrt(grad_taps.shape[0]))
    reach = side // 2
    pitch = width + 2 * reach
    x, grad = floats(x, (n, inputs, height, width)), floats(grad, (n, outputs, height, width))
    for image in range(n):
        _pad(x[image], reach, padded)
        for first in range(0, height * pitch, strip.shape[1]):
            count = min(strip.shape[1], height * pitch - first)
            for o in range(outputs):
                result = strip[o]
                result[:count] = 0.0
                for y in range(first // pitch, (first + count - 1) // pitch + 1):
                    low, high = max(y * pitch, first), min(y * pitch + width, first + count)
                    row = grad[image, o, y]
                    for i in range(low, high):
                        result[i - first] = row[i - y * pitch]
            for tap in range(grad_taps.shape[0]):
                begin = first + tap // side * pitch + tap % side
                source = (padded[0, begin:], -padded.shape[1])
                product = (outputs, count, inputs)
                multiply(sgemm, (strip, strip.shape[1]), source, (grad_taps[tap], inputs), product, 1.0)


def _padded(channels: int, height: int, width: int, side: int) -> np.ndarray:
    reach = side // 2
    padded = aligned(channels, (height + 2 * reach) * (width + 2 * reach) + 2 * reach)
    padded[:] = 0
    return padded


class DenseFunction(PyLayer):
    """x [N, C, H, W] with weight [O, C, k, k], k odd, of stride 1 and padding k // 2 -> [N, O, H, W]; float32, CPU."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.wanted = wanted([x, weight])
        x = contiguous(x)
        n, inputs, height, width = x.shape
        outputs, side = weight.shape[0], weight.shape[2]
        ctx.save_for_backward(x, weight)
        out = empty([n, outputs, height, width])
        taps = _taps(weight)
        scratch = _padded(inputs, height, width, side), aligned(outputs, STRIP)
        _convolve(SGEMM, (n, inputs, outputs, height, width), x.data_ptr(), taps, *scratch, out.data_ptr())
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensor()
        n, inputs, height, width = x.shape
        outputs, side = weight.shape[0], weight.shape[2]
        grad = contiguous(grad)
        grad_x = grad_weight = None
        if ctx.wanted[0]:
            grad_x = empty(x.shape)
            turned = np.ascontiguousarray(_taps(weight)[::-1].transpose(0, 2, 1))  # the same kernel, seen from outputs
            scratch = _padded(outputs, height, width, side), aligned(inputs, STRIP)
            _convolve(SGEMM, (n, outputs, inputs, height, width), grad.data_ptr(), turned, *scratch, grad_x.data_ptr())
        if ctx.wanted[1]:
            grad_taps = np.zeros((side * side, outputs, inputs), np.float32)
            scratch = _padded(inputs, height, width, side), aligned(outputs, STRIP)
            _convolve_backward(
                SGEMM, (n, inputs, outputs, height, width), x.data_ptr(), grad.data_ptr(), *scratch, grad_taps
            )
            grad_weight = paddle.to_tensor(grad_taps.transpose(1, 2, 0).reshape(weight.shape))
        return where(ctx.wanted, [grad_x, grad_weight])


def _taps(weight) -> np.ndarray:
    """Return [O, C, k, k] -> [k k, O, C], contiguous."""
    outputs, inputs, side, _ = weight.shape
    taps = aligned(side * side, outputs, inputs)
    np.copyto(taps, view(weight).reshape(outputs, inputs, -1).transpose(2, 0, 1))
    return taps
