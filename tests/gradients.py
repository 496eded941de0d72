"""Outputs and gradients of layers, to compare kernels by."""

from __future__ import annotations

import numpy as np
import paddle

from ppocr_slim.models.state import model_state


def run_backward(function, layers, x, *others):
    """Return the output, gradients of inputs and parameters, running statistics; the output's gradient is random."""
    inputs = [tensor.clone() for tensor in (x, *others)]
    for tensor in inputs:
        tensor.stop_gradient = False
    y = function(*inputs)
    gradient = np.random.default_rng(7).standard_normal(y.shape)
    paddle.autograd.backward([y], [paddle.to_tensor(gradient, dtype=y.dtype)])
    results = [y, *(tensor.grad for tensor in inputs)]
    for layer in layers:
        results += [p.grad for p in layer.parameters() if p.grad is not None]
        results += [tensor.clone() for tensor in model_state(layer).values() if tensor.stop_gradient]
    return results
