"""Batch norm fused with its activation and, at the end of a residual block, with the addition.

Batch norm as in Ioffe and Szegedy 2015 (arXiv:1502.03167), with the statistics of the batch.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from paddle.autograd import PyLayer

from ppocr_slim.training.kernels.memory import addresses, contiguous, empty, floats, wanted, where
from ppocr_slim.training.kernels.planes import KERNEL, activate, channels_at_a_time, slope

# What a norm keeps of each channel for its gradient: saved [4, C]. Its output is FACTOR * x + SHIFT.
MEAN, SCALE, FACTOR, SHIFT = 0, 1, 2, 3


@njit(inline="always")
def mean_of(values):
    """Return the mean of values [K]."""
    total = np.float32(0.0)
    for i in range(values.size):
        total += values[i]
    return np.float32(total / values.size)


# A channel's own numbers are computed in double precision. The compiler makes two versions of a loop over channels,
# with products and sums fused differently, and where the arrays happen to lie in memory decides which one runs: in
# single precision two runs from one seed would now and then differ in a last bit, and then in everything.


@njit(inline="always")
def finish_statistics(c, first, second, count, origin, affine, running, momentum, epsilon, saved):
    """Fill saved[:, c] from the sums of distances from `origin` and of their squares; move the running statistics.

    Sums of distances need one pass over the values instead of two; with an origin near the mean no digits are lost.
    The variance is not Bessel-corrected, and momentum is the weight of the old value, as in Paddle.
    """
    distance = first / count
    variance = max(0.0, second / count - distance * distance)
    mean, scale = np.float32(origin + distance), np.float32(1.0 / np.sqrt(variance + epsilon))
    factor = affine[0][c] * scale
    saved[MEAN, c], saved[SCALE, c] = mean, scale
    saved[FACTOR, c], saved[SHIFT, c] = factor, np.float64(affine[1][c]) - np.float64(mean) * np.float64(factor)
    old = np.float64(momentum)
    running[0][c] = old * running[0][c] + (1.0 - old) * mean
    running[1][c] = old * running[1][c] + (1.0 - old) * variance


@njit(inline="always")
def take_statistics(x, start, stop, affine, running, momentum, epsilon, saved):
    """Do what `finish_statistics` does for the channels start to stop of x [N, C, P]."""
    first, second = np.zeros(stop - start), np.zeros(stop - start)
    origin = np.empty(stop - start, np.float32)
    for c in range(start, stop):
        origin[c - start] = mean_of(x[0, c])
    for n in range(x.shape[0]):
        for c in range(start, stop):
            plane, middle = x[n, c], origin[c - start]
            a, b = np.float32(0.0), np.float32(0.0)
            for i in range(plane.size):
                distance = plane[i] - middle
                a += distance
                b += distance * distance
            first[c - start] += a
            second[c - start] += b
    count = x.shape[0] * x.shape[2]
    for c in range(start, stop):
        k = c - start
        finish_statistics(c, first[k], second[k], count, origin[k], affine, running, momentum, epsilon, saved)


@njit(inline="always")
def add_gradient_sums(x, grad, start, stop, saved, act, first, second):
    """Add, for each of the channels, the sums of g and of g times the normalized x; g is the norm's own gradient."""
    for n in range(x.shape[0]):
        for c in range(start, stop):
            plane, incoming = x[n, c], grad[n, c]
            mean, factor, shift = saved[MEAN, c], saved[FACTOR, c], saved[SHIFT, c]
            a, b = np.float32(0.0), np.float32(0.0)
            for i in range(plane.size):
                g = incoming[i] * slope(plane[i] * factor + shift, act)
                a += g
                b += g * (plane[i] - mean)
            first[c - start] += a
            second[c - start] += b * saved[SCALE, c]


@njit(inline="always")
def gradient_line(c, first, second, count, saved):
    """Return (slant, level) of a channel: the gradient of x is factor * g + slant * x + level.

    That is factor * (g - mean(g) - normalized x * mean(g * normalized x)) with the constants taken together.
    """
    factor = np.float64(saved[FACTOR, c])
    slant = -factor * saved[SCALE, c] * (second / count)
    return np.float32(slant), np.float32(-factor * (first / count) - slant * saved[MEAN, c])


@njit(inline="always")
def pair(addresses, count):
    """Return the arrays (gamma, beta) or (mean, variance) of `count` channels at two addresses."""
    return floats(addresses[0], count), floats(addresses[1], count)


@njit(**KERNEL)
def _forward(shape, x, addend, affine, running, momentum, epsilon, act, saved, out):
    """Write act(norm(x)) + addend to out; shape [N, C, P]; x, addend (0: none), affine, running, out: addresses."""
    x, out = floats(x, shape), floats(out, shape)
    affine, running = pair(affine, shape[1]), pair(running, shape[1])
    more_there, addend = addend != 0, floats(addend, shape)
    block = channels_at_a_time(shape[2])
    for start in range(0, x.shape[1], block):
        stop = min(x.shape[1], start + block)
        take_statistics(x, start, stop, affine, running, momentum, epsilon, saved)
        for n in range(x.shape[0]):
            for c in range(start, stop):
                plane, result, factor, shift = x[n, c], out[n, c], saved[FACTOR, c], saved[SHIFT, c]
                if more_there:
                    more = addend[n, c]
                    for i in range(plane.size):
                        result[i] = activate(plane[i] * factor + shift, act) + more[i]
                else:
                    for i in range(plane.size):
                        result[i] = activate(plane[i] * factor + shift, act)


@njit(**KERNEL)
def _backward(shape, x, grad, saved, act, grad_x, grad_affine):
    """Write the gradients of x and of (gamma, beta), by `grad`, that of `_forward`'s result."""
    x, grad, grad_x = floats(x, shape), floats(grad, shape), floats(grad_x, shape)
    grad_affine = pair(grad_affine, shape[1])
    block = channels_at_a_time(x.shape[2])
    count = x.shape[0] * x.shape[2]
    for start in range(0, x.shape[1], block):
        stop = min(x.shape[1], start + block)
        first, second = np.zeros(stop - start), np.zeros(stop - start)
        add_gradient_sums(x, grad, start, stop, saved, act, first, second)
        grad_affine[0][start:stop], grad_affine[1][start:stop] = second, first
        for n in range(x.shape[0]):
            for c in range(start, stop):
                plane, incoming, result = x[n, c], grad[n, c], grad_x[n, c]
                factor, shift = saved[FACTOR, c], saved[SHIFT, c]
                slant, level = gradient_line(c, first[c - start], second[c - start], count, saved)
                for i in range(plane.size):
                    g = incoming[i] * slope(plane[i] * factor + shift, act)
                    result[i] = factor * g + slant * plane[i] + level


class NormFunction(PyLayer):
    """act(batch_norm(x)) + addend for x [N, C, H, W], float32 on the CPU; `addend` of the same shape, or None.

    The running statistics of `norm`, a BatchNorm2D in training mode, move as its own forward would move them.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, norm, act, addend=None):
        ctx.wanted = wanted([x, gamma, beta] if addend is None else [x, gamma, beta, addend])
        x, more = contiguous(x), None if addend is None else contiguous(addend)
        n, channels, height, width = x.shape
        ctx.shape, ctx.act = (n, channels, height * width), act
        ctx.saved = np.empty((4, channels), np.float32)
        out = empty(x.shape)
        _forward(
            ctx.shape,
            x.data_ptr(),
            0 if more is None else more.data_ptr(),
            addresses([gamma, beta]),
            addresses([norm._mean, norm._variance]),
            np.float32(norm._momentum),
            norm._epsilon,
            act,
            ctx.saved,
            out.data_ptr(),
        )
        ctx.save_for_backward(x, gamma, beta)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, gamma, beta = ctx.saved_tensor()
        gradients = [empty(tensor.shape) for tensor in (x, gamma, beta)]
        incoming = contiguous(grad)
        _backward(
            ctx.shape,
            x.data_ptr(),
            incoming.data_ptr(),
            ctx.saved,
            ctx.act,
            gradients[0].data_ptr(),
            addresses(gradients[1:]),
        )
        return where(ctx.wanted, [*gradients, grad])
