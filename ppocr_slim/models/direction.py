"""The text direction classifier of PP-OCR (arXiv:2009.09941) on MobileNetV3."""

from __future__ import annotations

import paddle
from paddle import nn

from ppocr_slim.models.mobilenet_v3 import ConvNormAct, MobileNetV3, scaled

CLASSES = 2  # upright, upside down
LAST_EXPANSION = 6  # MobileNetV3's last convolution widens by this factor
STRIDES = ((2, 2), (2, 1), (2, 2), (2, 1), (2, 2))  # an input is four times as wide as high


class DirectionClassifier(nn.Layer):
    """Classifier of text lines as upright or upside down.

    Input: image [N, 3, height, width] float32 in [-1, 1]. Output: logits [N, 2] float32: upright, upside down.

    Attributes:
        typical_input: input shape for cost and latency measurements.
    """

    def __init__(self, backbone: MobileNetV3, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width
        self.typical_input = (1, 3, height, width)
        self.backbone = backbone
        features = scaled(backbone.out_channels * LAST_EXPANSION, 1.0)
        self.last = ConvNormAct(backbone.out_channels, features, 1, activation=nn.ReLU)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.head = nn.Linear(features, CLASSES)

    def forward(self, image):
        return self.outputs(image)["logits"]

    def outputs(self, image) -> dict[str, paddle.Tensor]:
        """Return {"features": [N, C], "logits": [N, 2]}."""
        features = self.pool(self.last(self.backbone(image))).flatten(1)
        return {"features": features, "logits": self.head(features)}


def dir_cls_mv3_slim(
    height: int = 48,
    width: int = 192,
    backbone: str = "small",
    scale: float = 0.35,
    se: bool = False,
    hard_swish: bool = False,
) -> DirectionClassifier:
    """Return the released direction classifier."""
    return DirectionClassifier(MobileNetV3(backbone, scale, se, hard_swish, STRIDES), height, width)
