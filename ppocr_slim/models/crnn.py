"""CRNN for text lines (Shi et al. 2015, arXiv:1507.05717) on MobileNetV3, as in PP-OCR (arXiv:2009.09941)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional

from ppocr_slim.models.mobilenet_v3 import TEXT_LINE_STRIDES, MobileNetV3
from ppocr_slim.models.necks import build_neck

LAST_EXPANSION = 6  # MobileNetV3's last convolution widens by this factor
LSTM = {"kind": "lstm"}  # the neck of all recognizers before there were others
TYPICAL_ASPECT = 15  # width / height of a typical address line, for cost and latency measurements


class TimeSteps(nn.Layer):
    """Feature maps of height 1 as a sequence of time steps: [N, C, 1, T] -> [N, T, C]."""

    def forward(self, x):
        return x.squeeze(2).transpose([0, 2, 1])


class LineDropout(nn.Layer):
    """Dropout of features with one mask for all time steps (Gal and Ghahramani 2016, arXiv:1512.05287).

    Features are time steps [N, T, C] or a feature map [N, C, 1, T].
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or not self.p:
            return x
        return x * self.mask(x).expand_as(x)  # Paddle's gradient of a broadcast product takes five times as long

    def mask(self, x):
        """Return a new mask for x, [N, 1, C] or [N, C, 1, 1]: 0, or 1 / (1 - p)."""
        shape = [x.shape[0], 1, x.shape[2]] if x.ndim == 3 else [*x.shape[:2], 1, 1]
        return functional.dropout(paddle.ones(shape), self.p)


class CRNN(nn.Layer):
    """Convolutions, neck and CTC head for one text line.

    Input: image [N, 3, height, W] float32 in [-1, 1]. Output: logits [N, T, classes] float32, T = ceil(W / 4) (see
    `runtime.preprocess.time_steps_for_width`); class 0 is the CTC blank. Any width is valid; the height is fixed when
    the model is built.

    Args:
        backbone: returns [N, C, ceil(height / height_stride), T].
        height: input height, pixels.
        height_stride: total stride of the backbone along the height.
        neck: see `necks.NECKS`.
        dropout: probability before the neck and before the head.
        classes: number of classes, with the blank.

    Attributes:
        typical_input: input shape for cost and latency measurements.
    """

    def __init__(
        self,
        backbone: MobileNetV3,
        height: int,
        height_stride: int,
        neck: Mapping[str, Any],
        dropout: float,
        classes: int,
    ):
        super().__init__()
        feature_height = -(-height // height_stride)  # equal to halving and rounding up several times
        self.height = height
        self.typical_input = (1, 3, height, TYPICAL_ASPECT * height)
        self.backbone = backbone
        features = backbone.out_channels * LAST_EXPANSION
        # MobileNetV3's last 1x1 convolution, but over the whole remaining height: a mean over it would lose whether a
        # diacritic is above or below its letter.
        self.collapse = nn.Sequential(
            nn.Conv2D(backbone.out_channels, features, (feature_height, 1), bias_attr=False),
            nn.BatchNorm2D(features),
            nn.ReLU(),
        )
        self.steps = TimeSteps()
        self.dropout = LineDropout(dropout)
        self.encoder, outputs = build_neck(neck, features)
        self.head = nn.Linear(outputs, classes)

    @property
    def feature_channels(self) -> int:
        """Channels of the features that the neck takes; pruning changes them."""
        return int(self.collapse[0].weight.shape[0])

    def forward(self, image):
        return self.outputs(image)["logits"]

    def outputs(self, image) -> dict[str, paddle.Tensor]:
        """Return the logits and the activations that distillation uses.

        Returns:
            {"features": [N, T, C] of the convolutions, "encoded": [N, T, C] of the neck, "logits": [N, T, classes]}.
        """
        maps = self.collapse(self.backbone(image))
        features = self.steps(maps)
        if isinstance(self.encoder, nn.LSTM):
            encoded, _ = self.encoder(self.dropout(features))
        else:
            encoded = self.steps(self.encoder(self.dropout(maps)))
        return {"features": features, "encoded": encoded, "logits": self.head(self.dropout(encoded))}


def _backbone(backbone: str, scale: float, se: bool, hard_swish: bool, height_stride: int) -> MobileNetV3:
    """Return the backbone; a height stride of 16 omits the last halving: diacritics keep their own pixel row."""
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
    neck: Mapping[str, Any] = LSTM,
) -> CRNN:
    """Return the released recognizer: at most 1.6 M parameters with the defaults.

    Args:
        hidden: of an LSTM, see `necks.lstm`; other necks have their arguments in `neck`.
        layers: of an LSTM.
        neck: "kind", a name of `necks.NECKS`, and its arguments.
    """
    features = _backbone(backbone, scale, se, hard_swish, height_stride)
    neck = {"kind": "lstm", "hidden": hidden, "layers": layers} if neck["kind"] == "lstm" else neck
    return CRNN(features, height, height_stride, neck, dropout, classes)


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
    neck: Mapping[str, Any] = LSTM,
) -> CRNN:
    """Return the large recognizer, the teacher in distillation."""
    features = _backbone(backbone, scale, se, hard_swish, height_stride)
    neck = {"kind": "lstm", "hidden": hidden, "layers": layers} if neck["kind"] == "lstm" else neck
    return CRNN(features, height, height_stride, neck, dropout, classes)
