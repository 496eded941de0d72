"""Matrix products of the MKL in Paddle's wheel, called from compiled Numba code.

Paddle links libmklml_intel.so; opening it by its path returns the instance that Paddle uses, with its number of
threads. The address of a function is passed to a kernel as an integer: Numba could not cache a kernel that contains it.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import paddle
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_ROW_MAJOR = 101
_AS_IS, _TRANSPOSED = 111, 112


def _address(name: str) -> int:
    """Return the address of a function of the library; 0 where there is no such library or function."""
    path = Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"
    try:
        return ctypes.cast(getattr(ctypes.CDLL(str(path)), name), ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


SGEMM = _address("cblas_sgemm")  # 0: this Paddle has no MKL

# cblas_sgemm(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
_I, _F, _P = types.int32, types.float32, types.uintp
_SGEMM_ARGUMENTS = (_I, _I, _I, _I, _I, _I, _F, _P, _I, _P, _I, _F, _P, _I)


@intrinsic
def _call_sgemm(typing_context, address, arguments):
    """Generate a call of the function at `address` with the arguments of cblas_sgemm, pointers as integers."""

    def generate(context, builder, signature, values):
        given = signature.args[1]
        parts = [
            context.cast(builder, value, source, target)
            for value, source, target in zip(cgutils.unpack_tuple(builder, values[1]), given, _SGEMM_ARGUMENTS)
        ]
        kind = ir.FunctionType(ir.VoidType(), [part.type for part in parts])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), parts)
        return context.get_dummy_value()

    return types.void(types.uintp, arguments), generate


@njit(inline="always")
def multiply(sgemm, left, right, result, shape, beta):
    """Compute result = left @ right + beta * result, in float32.

    A matrix is (array whose memory begins with it, stride from one row to the next). A negative stride of `left` or
    `right` marks a matrix that is stored transposed. `shape` is (rows, inner, columns), `sgemm` the address SGEMM.
    """
    rows, inner, columns = shape
    _call_sgemm(
        sgemm,
        (
            _ROW_MAJOR,
            _AS_IS if left[1] > 0 else _TRANSPOSED,
            _AS_IS if right[1] > 0 else _TRANSPOSED,
            rows,
            columns,
            inner,
            1.0,
            left[0].ctypes.data,
            abs(left[1]),
            right[0].ctypes.data,
            abs(right[1]),
            beta,
            result[0].ctypes.data,
            result[1],
        ),
    )
