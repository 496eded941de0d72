"""Layers between feature maps and time steps: the transposition, and dropout with one mask for all time steps."""

from __future__ import annotations

from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import empty, view, writable
from ppocr_slim.training.kernels.planes import KERNEL, scale_planes

TILE = 16  # by as many floats: two tiles stay in the first-level cache


@njit(**KERNEL)
def _transpose(x, out):
    for n in range(x.shape[0]):
        for top in range(0, x.shape[1], TILE):
            for left in range(0, x.shape[2], TILE):
                bottom, right = min(top + TILE, x.shape[1]), min(left + TILE, x.shape[2])
                for j in range(left, right):
                    for i in range(top, bottom):
                        out[n, j, i] = x[n, i, j]


def _transposed(x):
    """Return a copy of [N, A, B] as [N, B, A]."""
    out = empty([x.shape[0], x.shape[2], x.shape[1]])
    _transpose(view(x), writable(out))
    return out


class TimeStepsFunction(PyLayer):
    """[N, C, 1, T] -> [N, T, C], float32 on the CPU."""

    @staticmethod
    def forward(ctx, x):
        return _transposed(x.squeeze(2))

    @staticmethod
    def backward(ctx, grad):
        return _transposed(grad).unsqueeze(2)


@njit(**KERNEL)
def _multiply(x, mask, out):
    for n in range(x.shape[0]):
        for t in range(x.shape[1]):
            row, factors, result = x[n, t], mask[n, 0], out[n, t]
            for i in range(row.size):
                result[i] = row[i] * factors[i]


def _product(x, mask):
    out = empty(x.shape)
    if x.ndim == 3:
        _multiply(view(x), view(mask), writable(out))
    else:
        planes = (*x.shape[:2], -1)
        scale_planes(view(x).reshape(planes), view(mask).reshape(x.shape[:2]), writable(out).reshape(planes))
    return out


class MaskFunction(PyLayer):
    """x [N, T, C] or [N, C, H, W] times mask [N, 1, C] or [N, C, 1, 1], which has no gradient; float32 on the CPU."""

    @staticmethod
    def forward(ctx, x, mask):
        ctx.mask = mask
        return _product(x, mask)

    @staticmethod
    def backward(ctx, grad):
        return _product(grad, ctx.mask), None
