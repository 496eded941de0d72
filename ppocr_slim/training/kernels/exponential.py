"""exp for the inner loops of kernels, in a form that the compiler turns into vector instructions."""

from __future__ import annotations

import numpy as np
from numba import njit

# No "nnan" or "ninf": a NaN must come out as one. No "reassoc": it would undo the rounding below.
EXACT = {"fastmath": {"contract", "nsz", "arcp"}, "nogil": True, "cache": True, "error_model": "numpy"}

_LOG2_E = np.float32(1.4426950408889634)
_LARGEST = np.float32(126.0)
_ROUNDER = np.float32(1.5 * 2**23)  # added and subtracted, it leaves the nearest integer
_ONE_BITS = np.int32(0x3F800000)  # float32 1.0
# 2^f for f in [-0.5, 0.5] within a factor of 1 +- 9.2e-8: the polynomial of degree 5 with the smallest relative error
_P0 = np.float32(1.0)
_P1, _P2, _P3, _P4, _P5 = (
    np.float32(v) for v in (0.693146978, 0.240222421, 0.0555073374, 0.00967151281, 0.00132647272)
)


@njit(**EXACT)
def exp(x):
    """Return exp(x) of a float32, as 2^k 2^f with an integer k; the relative error is at most (2 + |x|) 1e-7.

    Beyond +-87.3 it stays at the value there, so it is never 0 and never infinite. NaN gives NaN.
    """
    t = _LOG2_E * x
    t = _LARGEST if t > _LARGEST else t
    t = -_LARGEST if t < -_LARGEST else t
    rounded = t + _ROUNDER  # the integer is in its last bits, too
    f = t - (rounded - _ROUNDER)
    power = np.int32((np.float32(rounded).view(np.int32) << np.int32(23)) + _ONE_BITS).view(np.float32)
    return (_P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5))))) * power
