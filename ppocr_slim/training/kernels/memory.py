"""The memory of Paddle's float32 CPU tensors, for numpy and for Numba."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import paddle
from numba import carray, njit, types
from numba.extending import intrinsic

CPU = paddle.CPUPlace()


def view(tensor) -> np.ndarray:
    """Return a tensor as an array to read, over the same memory if it is contiguous."""
    return np.from_dlpack(tensor.detach().contiguous())


def writable(tensor) -> np.ndarray:
    """Return the same of a contiguous tensor, to be written: what DLPack gives numpy is read-only. Keep the tensor
    alive.

    Results are written into Paddle's own memory, which is aligned: MKL sums in another order where it is not, and two
    runs from one seed would drift apart.
    """
    memory = (ctypes.c_float * int(tensor.size)).from_address(tensor.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(tensor.shape)


def aligned(*shape: int) -> np.ndarray:
    """Uninitialised float32 memory that begins where a vector register's does: MKL then always sums in one order."""
    count = int(np.prod(shape))
    memory = np.empty(count + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    return memory[first : first + count].reshape(shape)


# What follows spares a network's hundreds of calls a step the making of arrays, which costs a twentieth of it.


def empty(shape: Sequence[int]) -> paddle.Tensor:
    """Return `paddle.empty`, without the five sixths of its time that go into asking for device and type."""
    return paddle._C_ops.empty(shape, paddle.float32, CPU)


def contiguous(tensor: paddle.Tensor) -> paddle.Tensor:
    """Return the tensor, or a contiguous copy. Keep it alive while its address is used."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def addresses(tensors: Sequence[paddle.Tensor]) -> tuple:
    """Return where the values of contiguous tensors lie. Keep the tensors alive while that is used."""
    return tuple(tensor.data_ptr() for tensor in tensors)


@intrinsic
def _pointer(typing_context, address):
    """Return the memory at an address, for `carray`."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), code


@njit(inline="always")
def floats(address, shape):
    """Return the float32 array at an address, inside a kernel."""
    return carray(_pointer(address), shape)


def wanted(tensors: Sequence[paddle.Tensor]) -> list[bool]:
    """Return which of the tensors given to a PyLayer have a gradient. To be asked in its forward: a copy may not know."""
    return [not tensor.stop_gradient for tensor in tensors]


def where(wanted: Sequence[bool], gradients: Sequence) -> tuple:
    """Return the gradients, None where there is none: Paddle demands it of a PyLayer."""
    return tuple(gradient if there else None for there, gradient in zip(wanted, gradients))
