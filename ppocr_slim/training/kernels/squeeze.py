"""Squeeze-and-excitation (arXiv:1709.01507): kernels pass over the feature maps, Paddle computes the small products."""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle.autograd import PyLayer
from paddle.nn import functional

from ppocr_slim.training.kernels.memory import view, wanted, where, writable
from ppocr_slim.training.kernels.norm import mean_of
from ppocr_slim.training.kernels.planes import KERNEL, scale_planes


@njit(**KERNEL)
def _pool(x, out):
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[n, c] = mean_of(x[n, c])


@njit(**KERNEL)
def _sum_products(x, grad, out):
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            plane, incoming = x[n, c], grad[n, c]
            total = np.float32(0.0)
            for i in range(plane.size):
                total += plane[i] * incoming[i]
            out[n, c] = total


@njit(**KERNEL)
def _scale_back(grad, gate, level, out):
    for n in range(grad.shape[0]):
        for c in range(grad.shape[1]):
            incoming, result, factor = grad[n, c], out[n, c], gate[n, c]
            more = level[n, c] / np.float32(incoming.size)
            for i in range(incoming.size):
                result[i] = incoming[i] * factor + more


def planes(array: np.ndarray) -> np.ndarray:
    """Return a view of [N, C, H, W] as [N, C, H * W]."""
    return array.reshape(array.shape[0], array.shape[1], -1)


class SqueezeExciteFunction(PyLayer):
    """x [N, C, H, W] times hard_sigmoid(expand(relu(reduce(mean over H and W)))), float32 on the CPU.

    reduce [R, C, 1, 1] and expand [C, R, 1, 1] are 1x1 convolutions' weights, each followed by its bias.
    """

    @staticmethod
    def forward(ctx, x, reduce, reduce_bias, expand, expand_bias):
        pooled = paddle.empty(x.shape[:2])
        _pool(planes(view(x)), writable(pooled))
        hidden = functional.relu(paddle.matmul(pooled, reduce.flatten(1), transpose_y=True) + reduce_bias)
        gate = functional.hardsigmoid(paddle.matmul(hidden, expand.flatten(1), transpose_y=True) + expand_bias)
        out = paddle.empty_like(x)
        scale_planes(planes(view(x)), view(gate), planes(writable(out)))
        ctx.save_for_backward(x, reduce, reduce_bias, expand, expand_bias)
        ctx.wanted = wanted([x, reduce, reduce_bias, expand, expand_bias])
        ctx.inner = pooled, hidden, gate
        return out

    @staticmethod
    def backward(ctx, grad):
        x, reduce, reduce_bias, expand, expand_bias = ctx.saved_tensor()
        pooled, hidden, gate = ctx.inner
        by_gate = paddle.empty_like(gate)
        _sum_products(planes(view(x)), planes(view(grad)), writable(by_gate))
        by_gate *= ((gate > 0) & (gate < 1)).astype("float32") / 6  # the slope of the hard sigmoid
        by_hidden = paddle.matmul(by_gate, expand.flatten(1)) * (hidden > 0).astype("float32")
        by_pooled = paddle.matmul(by_hidden, reduce.flatten(1))
        by_x = paddle.empty_like(x)
        _scale_back(planes(view(grad)), view(gate), view(by_pooled), planes(writable(by_x)))
        gradients = [
            by_x,
            paddle.matmul(by_hidden, pooled, transpose_x=True).reshape(reduce.shape),
            by_hidden.sum(0),
            paddle.matmul(by_gate, hidden, transpose_x=True).reshape(expand.shape),
            by_gate.sum(0),
        ]
        return where(ctx.wanted, gradients)
