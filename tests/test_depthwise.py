"""The fast depthwise convolution must be Paddle's convolution, only faster."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from ppocr_slim.training.depthwise import accelerate


def largest_relative_error(a, b) -> float:
    return float(np.abs(a.numpy() - b.numpy()).max() / max(1e-6, np.abs(b.numpy()).max()))


def pair(channels: int, kernel: int, stride, padding: int):
    """Two convolutions with the same weights; the second one is accelerated."""
    plain = nn.Conv2D(channels, channels, kernel, stride, padding, groups=channels, bias_attr=False)
    fast = nn.Conv2D(channels, channels, kernel, stride, padding, groups=channels, bias_attr=False)
    fast.weight.set_value(plain.weight)
    assert accelerate(fast) == 1
    return plain, fast


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 2)]),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(7, 13), st.integers(7, 40)),
    padding=st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
def test_output_and_gradients_are_paddles(kernel, stride, shape, padding, seed):
    """Lost otherwise: training on a CPU would follow wrong gradients, and nobody would see why accuracy is poor."""
    paddle.seed(seed)
    results = []
    data = paddle.randn(shape)
    layers = pair(shape[1], kernel, stride, padding)
    target = None
    for layer in layers:
        x = data.clone()
        x.stop_gradient = False
        y = layer(x)
        target = paddle.randn(y.shape) if target is None else target
        (y * target).sum().backward()
        results.append((y, x.grad, layer.weight.grad))
    for fast, plain in zip(results[1], results[0]):
        assert fast.shape == plain.shape
        assert largest_relative_error(fast, plain) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2D(4, 4, 3, padding=1),  # dense
        nn.Conv2D(4, 8, 3, padding=1, groups=4, bias_attr=False),  # two outputs a channel
        nn.Conv2D(4, 4, 3, padding=2, dilation=2, groups=4, bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=1, groups=4),  # with a bias
        nn.Conv2D(4, 4, 1, groups=4, bias_attr=False),
    ],
)
def test_other_convolutions_are_left_alone(layer):
    """Lost otherwise: a layer that the kernel cannot compute would be computed wrongly."""
    own = layer.forward
    assert accelerate(layer) == 0
    assert layer.forward == own


def test_double_precision_takes_paddles_own_kernel():
    """Lost otherwise: an input of another type would be reinterpreted as garbage or crash."""
    _, fast = pair(3, 3, (1, 1), 1)
    fast = fast.to(dtype="float64")
    assert fast(paddle.ones([1, 3, 5, 5], dtype="float64")).dtype == paddle.float64
