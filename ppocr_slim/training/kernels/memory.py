"""Access to the memory of Paddle's float32 CPU tensors, for numpy and for Numba."""

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
    """Return a contiguous tensor as an array to write to, over the same memory; keep the tensor alive.

    DLPack's arrays are read-only. Results are written into Paddle's own memory, which is aligned: MKL sums in another
    order where it is not, and two runs from one seed would drift apart.
    """
    memory = (ctypes.c_float * int(tensor.size)).from_address(tensor.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(tensor.shape)


def aligned(*shape: int) -> np.ndarray:
    """Return uninitialised float32 memory, aligned to 64 bytes: MKL then always sums in the same order."""
    count = int(np.prod(shape))
    memory = np.empty(count + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    return memory[first : first + count].reshape(shape)


# What follows spares a network's hundreds of calls a step the making of arrays, which costs a twentieth of it.


def empty(shape: Sequence[int]) -> paddle.Tensor:
    """Return `paddle.empty(shape)`, without the five sixths of its time that go into finding device and type."""
    return paddle._C_ops.empty(shape, paddle.float32, CPU)


def contiguous(tensor: paddle.Tensor) -> paddle.Tensor:
    """Return the tensor, or a contiguous copy; keep it alive while its address is used."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def addresses(tensors: Sequence[paddle.Tensor]) -> tuple:
    """Return the addresses of contiguous tensors; keep the tensors alive while these are used."""
    return tuple(tensor.data_ptr() for tensor in tensors)


@intrinsic
def _pointer(typing_context, address):
    """Return an address as a pointer to float32, for `carray`."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), code


@njit(inline="always")
def floats(address, shape):
    """Return the float32 array at an address, inside a kernel."""
    return carray(_pointer(address), shape)


def wanted(tensors: Sequence[paddle.Tensor]) -> list[bool]:
    """Return which of a PyLayer's tensors need a gradient; call it in the forward, as a copy may not know."""
    return [not tensor.stop_gradient for tensor in tensors]


def where(wanted: Sequence[bool], gradients: Sequence) -> tuple:
    """Return the gradients with None where none is wanted, as Paddle demands of a PyLayer."""
    return tuple(gradient if needed else None for needed, gradient in zip(wanted, gradients))
