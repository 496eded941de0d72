"""Nearest-neighbour upsampling by an integer factor, for training on a CPU."""

from __future__ import annotations

from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import contiguous, empty, floats
from ppocr_slim.training.kernels.planes import KERNEL


@njit(**KERNEL)
def _repeat(shape, times, x, out):
    """Write x [P, H, W] to out [P, H times, W times], both addresses, each pixel repeated."""
    planes, height, width = shape
    x, out = floats(x, shape), floats(out, (planes, height * times, width * times))
    for plane in range(planes):
        for y in range(height):
            row, first = x[plane, y], out[plane, y * times]
            if times == 2:  # a constant: the compiler makes vectors of it
                for column in range(width):
                    first[2 * column] = row[column]
                    first[2 * column + 1] = row[column]
            else:
                for column in range(width):
                    first[column * times : (column + 1) * times] = row[column]
            for i in range(1, times):
                out[plane, y * times + i] = first


@njit(**KERNEL)
def _sum_up(shape, times, grad, grad_x):
    """Write the gradient of `_repeat`'s x to grad_x, by `grad`, that of its result."""
    planes, height, width = shape
    grad, grad_x = floats(grad, (planes, height * times, width * times)), floats(grad_x, shape)
    for plane in range(planes):
        for y in range(height):
            total = grad_x[plane, y]
            total[:] = 0.0
            for i in range(times):
                row = grad[plane, y * times + i]
                if times == 2:
                    for column in range(width):
                        total[column] += row[2 * column] + row[2 * column + 1]
                else:
                    for column in range(width):
                        for j in range(times):
                            total[column] += row[column * times + j]


class RepeatFunction(PyLayer):
    """x [N, C, H, W] -> [N, C, H times, W times], each pixel repeated; float32 on the CPU."""

    @staticmethod
    def forward(ctx, x, times):
        x = contiguous(x)
        n, channels, height, width = ctx.shape = x.shape
        ctx.times = times
        out = empty([n, channels, height * times, width * times])
        _repeat((n * channels, height, width), times, x.data_ptr(), out.data_ptr())
        return out

    @staticmethod
    def backward(ctx, grad):
        n, channels, height, width = ctx.shape
        grad, grad_x = contiguous(grad), empty(ctx.shape)
        _sum_up((n * channels, height, width), ctx.times, grad.data_ptr(), grad_x.data_ptr())
        return grad_x
