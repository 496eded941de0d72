"""Activations of single numbers, and settings of the kernels that work through planes [H, W] of feature maps.

A channel of a batch is visited again and again while it is in the cache: statistics, normalization and activation
cost one trip to memory instead of one each.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LINEAR, RELU, HARD_SWISH = 0, 1, 2  # activations

# Everything that lets the compiler reorder sums, but NaN and infinity stay what they are: a training that diverges must
# be noticed.
FAST = {"reassoc", "contract", "arcp", "nsz"}
KERNEL = {"fastmath": FAST, "nogil": True, "cache": True, "error_model": "numpy"}


@njit(inline="always")
def activate(value, act):
    """Return the activation of a number; hard swish is x ReLU6(x + 3) / 6 (arXiv:1905.02244)."""
    if act == RELU:
        return np.float32(0.0) if value < np.float32(0.0) else value
    if act == HARD_SWISH:
        gate = value + np.float32(3.0)
        gate = np.float32(0.0) if gate < np.float32(0.0) else gate
        gate = np.float32(6.0) if gate > np.float32(6.0) else gate
        return value * gate * np.float32(1 / 6)
    return value


@njit(inline="always")
def slope(value, act):
    """Return the derivative of `activate` at `value`."""
    if act == RELU:
        return np.float32(1.0) if value > np.float32(0.0) else np.float32(0.0)
    if act == HARD_SWISH:
        inner = value * np.float32(1 / 3) + np.float32(0.5)
        inner = np.float32(0.0) if value <= np.float32(-3.0) else inner
        return np.float32(1.0) if value >= np.float32(3.0) else inner
    return np.float32(1.0)


@njit(inline="always")
def channels_at_a_time(plane):
    """Return the number of channels to process together, for planes of that many floats.

    A channel's planes lie far apart in memory, and on a text line they are short. Visiting a few channels of one image
    after the other makes runs of some kilobytes, which the processor fetches ahead.
    """
    return max(1, 1024 // plane)


@njit(**KERNEL)
def scale_planes(x, factors, out):
    """Write x [N, C, P] times factors [N, C] to out."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            plane, result, factor = x[n, c], out[n, c], factors[n, c]
            for i in range(plane.size):
                result[i] = plane[i] * factor
