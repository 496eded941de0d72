"""MobileNetV3 backbones (Howard et al. 2019, arXiv:1905.02244), small and large, at any scale.

The block tables are the paper's tables 1 and 2. Text models differ in data, not in code: the (height, width) stride of
each stage, whether squeeze-and-excitation is kept, and whether hard swish is replaced by ReLU (which trains faster on a
CPU and does not interrupt INT8 chains).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import nn


class BlockSpec(NamedTuple):
    """A row of the paper's table; `downsample` is stride 2; the activation is hard swish (HS) or ReLU."""

    kernel: int
    expanded: int
    channels: int
    se: bool
    hard_swish: bool
    downsample: bool


# fmt: off
LARGE = (  # table 1
    #   k  exp   c    SE     HS     s=2
    BlockSpec(3, 16,   16,  False, False, False),
    BlockSpec(3, 64,   24,  False, False, True),
    BlockSpec(3, 72,   24,  False, False, False),
    BlockSpec(5, 72,   40,  True,  False, True),
    BlockSpec(5, 120,  40,  True,  False, False),
    BlockSpec(5, 120,  40,  True,  False, False),
    BlockSpec(3, 240,  80,  False, True,  True),
    BlockSpec(3, 200,  80,  False, True,  False),
    BlockSpec(3, 184,  80,  False, True,  False),
    BlockSpec(3, 184,  80,  False, True,  False),
    BlockSpec(3, 480,  112, True,  True,  False),
    BlockSpec(3, 672,  112, True,  True,  False),
    BlockSpec(5, 672,  160, True,  True,  True),
    BlockSpec(5, 960,  160, True,  True,  False),
    BlockSpec(5, 960,  160, True,  True,  False),
)
SMALL = (  # table 2
    BlockSpec(3, 16,   16,  True,  False, True),
    BlockSpec(3, 72,   24,  False, False, True),
    BlockSpec(3, 88,   24,  False, False, False),
    BlockSpec(5, 96,   40,  True,  True,  True),
    BlockSpec(5, 240,  40,  True,  True,  False),
    BlockSpec(5, 240,  40,  True,  True,  False),
    BlockSpec(5, 120,  48,  True,  True,  False),
    BlockSpec(5, 144,  48,  True,  True,  False),
    BlockSpec(5, 288,  96,  True,  True,  True),
    BlockSpec(5, 576,  96,  True,  True,  False),
    BlockSpec(5, 576,  96,  True,  True,  False),
)
# fmt: on
TABLES = {"large": LARGE, "small": SMALL}
STEM_CHANNELS = 16

Stride = tuple[int, int]
# A text line is read along its width: two halvings there, five in height (CRNN, arXiv:1507.05717; PP-OCR,
# arXiv:2009.09941, found (2, 1) strides worth 5 points). The second halving of the width is in the first block that
# expands its channels: before it, 16 channels would have to represent strokes of two pixels.
TEXT_LINE_STRIDES: tuple[Stride, ...] = ((2, 2), (2, 1), (2, 2), (2, 1), (2, 1))


def scaled(channels: int, scale: float, divisor: int = 8) -> int:
    """Return channels * scale as a multiple of `divisor`, never rounded down by more than 10% (the paper's rule)."""
    rounded = max(divisor, int(channels * scale + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels * scale else rounded


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm and, unless it is None, an activation.

    `kernel` is the side of a square, or (height, width).
    """

    def __init__(self, inputs: int, outputs: int, kernel, stride=1, groups: int = 1, activation=None):
        padding = kernel // 2 if isinstance(kernel, int) else [side // 2 for side in kernel]
        layers = [
            nn.Conv2D(inputs, outputs, kernel, stride, padding, groups=groups, bias_attr=False),
            nn.BatchNorm2D(outputs),
        ]
        super().__init__(*layers, *([activation()] if activation else []))


class SqueezeExcite(nn.Layer):
    """Squeeze-and-excitation (arXiv:1709.01507) with the hard sigmoid of MobileNetV3; the shape is kept."""

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.reduce = nn.Conv2D(channels, max(8, channels // 4), 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2D(max(8, channels // 4), channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x):
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class Add(nn.Layer):
    """Sum of two tensors of the same shape; a layer, so that it can be quantized."""

    def forward(self, x, y):
        return x + y


class InvertedResidual(nn.Layer):
    """1x1 expansion, depthwise convolution, optional SE, linear 1x1 projection; a residual where shapes allow it."""

    def __init__(self, inputs: int, expanded: int, outputs: int, kernel: int, stride: Stride, se: bool, activation):
        super().__init__()
        self.expand = ConvNormAct(inputs, expanded, 1, activation=activation)
        self.depthwise = ConvNormAct(expanded, expanded, kernel, stride, groups=expanded, activation=activation)
        self.se = SqueezeExcite(expanded) if se else None
        self.project = ConvNormAct(expanded, outputs, 1)
        self.add = Add() if tuple(stride) == (1, 1) and inputs == outputs else None

    def forward(self, x):
        y = self.depthwise(self.expand(x))
        if self.se is not None:
            y = self.se(y)
        y = self.project(y)
        return y if self.add is None else self.add(x, y)


class MobileNetV3(nn.Layer):
    """The backbone up to the last block: [N, 3, H, W] -> [N, out_channels, H/32, W/4] with `TEXT_LINE_STRIDES`.

    Args:
        size: "small" or "large".
        scale: width multiplier of every layer.
        se: keep the squeeze-and-excitation blocks.
        hard_swish: keep hard swish where the paper has it, else use ReLU everywhere.
        strides: (height, width) of the stem and of the four stages that halve.

    Attributes:
        out_channels: channels of the output.
        map_channels: channels of each of `maps`.
    """

    def __init__(
        self,
        size: str = "small",
        scale: float = 0.5,
        se: bool = False,
        hard_swish: bool = False,
        strides: Sequence[Stride] = TEXT_LINE_STRIDES,
    ):
        super().__init__()
        if size not in TABLES:
            raise ValueError(f"backbone size {size!r} is not known; choose one of {sorted(TABLES)}")
        hs_activation = nn.Hardswish if hard_swish else nn.ReLU
        remaining = iter(strides)
        channels = scaled(STEM_CHANNELS, scale)
        self.stem = ConvNormAct(3, channels, 3, next(remaining), activation=hs_activation)
        blocks = []
        for row in TABLES[size]:
            stride = next(remaining) if row.downsample else (1, 1)
            outputs = scaled(row.channels, scale)
            blocks.append(
                InvertedResidual(
                    channels,
                    scaled(row.expanded, scale),
                    outputs,
                    row.kernel,
                    stride,
                    se and row.se,
                    hs_activation if row.hard_swish else nn.ReLU,
                )
            )
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.out_channels = channels
        self._last_of_size = [row.downsample for row in TABLES[size][1:]] + [True]
        ends = [row for row, last in zip(TABLES[size], self._last_of_size) if last]
        self.map_channels = [scaled(row.channels, scale) for row in ends]

    def forward(self, x):
        return self.blocks(self.stem(x))

    def maps(self, x) -> list[paddle.Tensor]:
        """Return the last feature map of each size, the largest first.

        With strides of (2, 2) the last four are at strides 4, 8, 16 and 32.
        """
        found = []
        x = self.stem(x)
        for block, last in zip(self.blocks, self._last_of_size):
            x = block(x)
            if last:
                found.append(x)
        return found
