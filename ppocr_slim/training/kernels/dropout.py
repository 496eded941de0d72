"""Dropout with one mask for all time steps."""

from __future__ import annotations

import paddle
from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import view, writable
from ppocr_slim.training.kernels.planes import KERNEL


@njit(**KERNEL)
def _multiply(x, mask, out):
    for n in range(x.shape[0]):
        for t in range(x.shape[1]):
            row, factors, result = x[n, t], mask[n, 0], out[n, t]
            for i in range(row.size):
                result[i] = row[i] * factors[i]


def _product(x, mask):
    out = paddle.empty_like(x)
    _multiply(view(x), view(mask), writable(out))
    return out


class MaskFunction(PyLayer):
    """x [N, T, C] times mask [N, 1, C], which has no gradient; float32 on the CPU.

    Paddle's product of unlike shapes, and its gradient, take many times as long.
    """

    @staticmethod
    def forward(ctx, x, mask):
        ctx.mask = mask
        return _product(x, mask)

    @staticmethod
    def backward(ctx, grad):
        return _product(grad, ctx.mask), None
