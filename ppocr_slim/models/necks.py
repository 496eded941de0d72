"""Necks of a recognizer, between its convolutions and its head: what lets a time step see its neighbours.

CRNN's neck is a bidirectional LSTM (arXiv:1507.05717). It goes through the time steps one after the other, which no
processor does fast, and its arithmetic stays in float where a chain of convolutions is INT8 throughout. A stack of 1-D
convolutions sees as far as a character and its neighbours reach, and computes all time steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.nn import functional

from ppocr_slim.models.mobilenet_v3 import Add, ConvNormAct
from ppocr_slim.models.reparam import BranchedDepthwise

EXPANSION = 2  # of a block's pointwise convolutions
SMALL_KERNEL = 3  # of the smaller branch


class TimeBlock(nn.Layer):
    """Residual block along a text line, [N, C, 1, T] -> [N, C, 1, T].

    A depthwise convolution mixes neighbouring time steps, two pointwise ones mix channels: an inverted residual
    (arXiv:1801.04381) whose spatial convolution comes first, as in ConvNeXt (arXiv:2201.03545).

    Args:
        channels: of the feature map.
        kernel: time steps that the depthwise convolution spans, an odd number.
        branches: train the depthwise convolution as a sum of branches, see `reparam`.
    """

    def __init__(self, channels: int, kernel: int, branches: bool):
        super().__init__()
        if branches:
            self.depthwise = BranchedDepthwise(channels, [kernel, min(kernel, SMALL_KERNEL)])
        else:
            self.depthwise = ConvNormAct(channels, channels, (1, kernel), groups=channels)
        self.expand = ConvNormAct(channels, EXPANSION * channels, 1, activation=nn.ReLU)
        self.project = ConvNormAct(EXPANSION * channels, channels, 1)
        self.add = Add()

    def forward(self, x):
        return self.add(x, self.project(self.expand(self.depthwise(x))))


def matmul(x, y, transpose_x: bool = False, transpose_y: bool = False) -> paddle.Tensor:
    """Return the products of the matrices in the last two axes.

    Paddle 3.2's own cannot be exported: it no longer supports the old program format.
    """
    if paddle.in_dynamic_mode():
        return paddle.matmul(x, y, transpose_x, transpose_y)
    helper = LayerHelper("matmul_v2")
    out = helper.create_variable_for_type_inference(x.dtype)
    attributes = {"trans_x": transpose_x, "trans_y": transpose_y}
    helper.append_op(type="matmul_v2", inputs={"X": x, "Y": y}, outputs={"Out": out}, attrs=attributes)
    return out


class SelfAttention(nn.Layer):
    """Residual self-attention over all time steps: [N, C, 1, T] -> [N, C, 1, T].

    The mixing of SVTR's global blocks (arXiv:2205.00159), as PP-OCRv3 and its successors have it. Linear layers are
    1x1 convolutions with batch norm, as in LeViT (arXiv:2104.01136): a layer norm could not be folded into them.

    Args:
        channels: of the feature map, a multiple of `heads`.
        heads: of the attention.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.head_channels = heads, channels // heads
        self.qkv = ConvNormAct(channels, 3 * channels, 1)
        self.merge = ConvNormAct(channels, channels, 1)
        self.add = Add()

    def forward(self, x):
        heads = self.qkv(x).reshape([0, 3 * self.heads, self.head_channels, -1])
        query, key, value = paddle.split(heads, 3, axis=1)  # [N, heads, C / heads, T] each
        weights = functional.softmax(matmul(query * self.head_channels**-0.5, key, transpose_x=True), axis=-1)
        mixed = matmul(value, weights, transpose_y=True)
        return self.add(x, self.merge(mixed.reshape([0, self.heads * self.head_channels, 1, -1])))


class PointwiseBlock(nn.Layer):
    """Residual pair of pointwise convolutions: [N, C, 1, T] -> [N, C, 1, T]."""

    def __init__(self, channels: int):
        super().__init__()
        self.expand = ConvNormAct(channels, EXPANSION * channels, 1, activation=nn.ReLU)
        self.project = ConvNormAct(EXPANSION * channels, channels, 1)
        self.add = Add()

    def forward(self, x):
        return self.add(x, self.project(self.expand(x)))


class ConvNeck(nn.Layer):
    """Stack of 1-D convolutions: [N, inputs, 1, T] -> [N, channels, 1, T].

    Args:
        inputs: channels of the feature map.
        channels: of the blocks.
        depth: number of blocks.
        kernel: time steps that a block's depthwise convolution spans, an odd number.
        branches: train the depthwise convolutions as sums of branches, see `reparam`.
        heads: of the attention behind the blocks; 0: there is none.
    """

    def __init__(self, inputs: int, channels: int, depth: int, kernel: int, branches: bool, heads: int):
        super().__init__()
        self.reduce = ConvNormAct(inputs, channels, 1)
        self.blocks = nn.Sequential(*[TimeBlock(channels, kernel, branches) for _ in range(depth)])
        self.attention = nn.Sequential(SelfAttention(channels, heads), PointwiseBlock(channels)) if heads else None

    def forward(self, x):
        x = self.blocks(self.reduce(x))
        return x if self.attention is None else self.attention(x)


def lstm(inputs: int, hidden: int = 128, layers: int = 2) -> tuple[nn.Layer, int]:
    """Return a bidirectional LSTM and the channels of its output; `hidden` is that of each direction."""
    return nn.LSTM(inputs, hidden, layers, direction="bidirect"), 2 * hidden


def conv(
    inputs: int, channels: int = 192, depth: int = 5, kernel: int = 11, branches: bool = False
) -> tuple[nn.Layer, int]:
    """Return a stack of 1-D convolutions and the channels of its output."""
    return ConvNeck(inputs, channels, depth, kernel, branches, heads=0), channels


def conv_attention(
    inputs: int, channels: int = 192, depth: int = 4, kernel: int = 11, branches: bool = False, heads: int = 4
) -> tuple[nn.Layer, int]:
    """Return a stack of 1-D convolutions with a block of self-attention behind it, and the channels of its output."""
    return ConvNeck(inputs, channels, depth, kernel, branches, heads), channels


NECKS: dict[str, Callable[..., tuple[nn.Layer, int]]] = {"lstm": lstm, "conv": conv, "conv_attention": conv_attention}
"""Kind of a neck -> (inputs, **arguments) -> the neck and the channels of its output."""


def build_neck(neck: Mapping[str, Any], inputs: int) -> tuple[nn.Layer, int]:
    """Build a neck.

    Args:
        neck: "kind", a name of `NECKS`, and arguments of its builder.
        inputs: channels of the feature map.

    Returns:
        The neck, and the channels of its output. An LSTM takes time steps [N, T, inputs], all others a feature map
        [N, inputs, 1, T].
    """
    arguments = {key: value for key, value in neck.items() if key != "kind"}
    return NECKS[neck["kind"]](inputs, **arguments)
