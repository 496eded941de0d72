"""CRNN for text lines (Shi et al. 2015, arXiv:1507.05717) on MobileNetV3, as in PP-OCR (arXiv:2009.09941)."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional

from ppocr_slim.models.mobilenet_v3 import TEXT_LINE_STRIDES, MobileNetV3

LAST_EXPANSION = 6  # MobileNetV3's last convolution widens by this factor
TYPICAL_ASPECT = 15  # width over height of an address row, on which figures are given


class TimeSteps(nn.Layer):
    """Feature maps of one row as time steps: [N, C, 1, T] -> [N, T, C]."""

    def forward(self, x):
        return x.squeeze(2).transpose([0, 2, 1])


class LineDropout(nn.Layer):
    """Dropout of features [N, T, C] with one mask for all time steps (Gal and Ghahramani 2016, arXiv:1512.05287)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or not self.p:
            return x
        return x * self.mask(x).expand_as(x)  # Paddle's gradient of a product of unlike shapes takes five times as long

    def mask(self, x):
        """A new mask for x, [N, 1, C]: 0, or 1 / (1 - p)."""
        return functional.dropout(paddle.ones([x.shape[0], 1, x.shape[2]]), self.p)


class CRNN(nn.Layer):
    """Convolutions, BiLSTM and CTC head for one text line.

    image [N, 3, height, W] float32 in [-1, 1] -> logits [N, T, classes] float32, T = ceil(W / 4) (see
    `runtime.preprocess.time_steps_for_width`), class 0 the CTC blank. Every width is legal; the height is
    fixed when the model is built.

    Args:
        backbone: gives [N, C, ceil(height / height_stride), T].

    Attributes:
        typical_input: the shape on which figures are given.
    """

    def __init__(
        self,
        backbone: MobileNetV3,
        height: int,
        height_stride: int,
        hidden: int,
        layers: int,
        dropout: float,
        classes: int,
    ):
        super().__init__()
        rows = -(-height // height_stride)  # halving five times, rounding up each time, comes to the same
        self.height = height
        self.typical_input = (1, 3, height, TYPICAL_ASPECT * height)
        self.backbone = backbone
        features = backbone.out_channels * LAST_EXPANSION
        # MobileNetV3's last 1x1 convolution, but over the rows that are left: a mean over them would forget whether
        # a mark stood above or below its letter.
        self.collapse = nn.Sequential(
            nn.Conv2D(backbone.out_channels, features, (rows, 1), bias_attr=False), nn.BatchNorm2D(features), nn.ReLU()
        )
        self.steps = TimeSteps()
        self.dropout = LineDropout(dropout)
        self.encoder = nn.LSTM(features, hidden, layers, direction="bidirect")
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, image):
        return self.outputs(image)["logits"]

    def outputs(self, image) -> dict[str, paddle.Tensor]:
        """The logits and what they were made from.

        "features" [N, T, C], of the convolutions; "encoded" [N, T, 2 * hidden], of the LSTM; "logits" [N, T, classes].
        """
        features = self.steps(self.collapse(self.backbone(image)))
        encoded, _ = self.encoder(self.dropout(features))
        return {"features": features, "encoded": encoded, "logits": self.head(self.dropout(encoded))}


def _trunk(backbone: str, scale: float, se: bool, hard_swish: bool, height_stride: int) -> MobileNetV3:
    """With a stride of 16 the last halving is left out: marks over a letter keep a row of their own for longer."""
    *strides, last = TEXT_LINE_STRIDES
    return MobileNetV3(backbone, scale, se, hard_swish, [*strides, last if height_stride == 32 else (1, 1)])


def crnn_mv3_slim(
    classes: int,
    height: int = 40,
    backbone: str = "small",
    scale: float = 0.75,
    se: bool = False,
    hard_swish: bool = False,
    height_stride: int = 32,
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.1,
) -> CRNN:
    """The recognizer that ships: at most 1.6 M parameters with its defaults."""
    trunk = _trunk(backbone, scale, se, hard_swish, height_stride)
    return CRNN(trunk, height, height_stride, hidden, layers, dropout, classes)


def crnn_teacher(
    classes: int,
    height: int = 48,
    backbone: str = "large",
    scale: float = 1.0,
    se: bool = True,
    hard_swish: bool = True,
    height_stride: int = 32,
    hidden: int = 256,
    layers: int = 2,
    dropout: float = 0.2,
) -> CRNN:
    """The large recognizer that slim ones learn from."""
    trunk = _trunk(backbone, scale, se, hard_swish, height_stride)
    return CRNN(trunk, height, height_stride, hidden, layers, dropout, classes)
