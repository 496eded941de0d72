"""Paddle's CPU tensors as numpy arrays over the same memory."""

from __future__ import annotations

import ctypes
from typing import List, Sequence

import numpy as np


def view(tensor) -> np.ndarray:
    """A float32 CPU tensor as an array to read, over the same memory if it is contiguous."""
    return np.from_dlpack(tensor.detach().contiguous())


def writable(tensor) -> np.ndarray:
    """The same of a contiguous tensor, to be written: what DLPack gives numpy is read-only. Keep the tensor alive.

    Results are written into Paddle's own memory, which is aligned: MKL sums in another order where it is not, and two
    runs from one seed would drift apart.
    """
    memory = (ctypes.c_float * int(tensor.size)).from_address(tensor.data_ptr())
    return np.ctypeslib.as_array(memory).reshape(tensor.shape)


def where_wanted(gradients: Sequence, tensors: Sequence) -> List:
    """The gradients, None where a tensor is frozen: Paddle demands it of a PyLayer."""
    return [None if tensor.stop_gradient else gradient for gradient, tensor in zip(gradients, tensors)]
