"""DB for text detection (Liao et al. 2020, arXiv:1911.08947) on MobileNetV3.

The head is the light one of PP-OCR (arXiv:2009.09941).
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.nn import functional

from ppocr_slim.models.mobilenet_v3 import ConvNormAct, MobileNetV3

STEEPNESS = 50  # k of the paper's equation 2
LEVELS = 4  # strides 4, 8, 16, 32
PAGE_STRIDES = ((2, 2),) * 5  # text is anywhere on a page: height and width are halved alike


class FeaturePyramid(nn.Layer):
    """Feature pyramid network (Lin et al. 2017, arXiv:1612.03144) with DB's concatenation of all levels.

    Input: maps [N, C_i, H / 2^i, W / 2^i], the largest first. Output: [N, channels, H, W].
    """

    def __init__(self, inputs: Sequence[int], channels: int):
        super().__init__()
        self.lateral = nn.LayerList([nn.Conv2D(n, channels, 1, bias_attr=False) for n in inputs])
        quarter = channels // len(inputs)
        self.smooth = nn.LayerList([nn.Conv2D(channels, quarter, 3, padding=1, bias_attr=False) for _ in inputs])
        self.twice = nn.Upsample(scale_factor=2, mode="nearest")
        self.enlarge = nn.LayerList([nn.Upsample(scale_factor=2**i, mode="nearest") for i in range(1, len(inputs))])

    def forward(self, maps):
        joined = [lateral(x) for lateral, x in zip(self.lateral, maps)]
        for level in reversed(range(len(joined) - 1)):
            joined[level] = joined[level] + self.twice(joined[level + 1])
        smooth = [smooth(x) for smooth, x in zip(self.smooth, joined)]
        enlarged = [smooth[0], *(enlarge(x) for enlarge, x in zip(self.enlarge, smooth[1:]))]
        return paddle.concat(enlarged[::-1], axis=1)


class Sigmoid(nn.Layer):
    """Element-wise sigmoid.

    Paddle 3.2's own cannot be exported: it no longer supports the old program format.
    """

    def forward(self, x):
        if paddle.in_dynamic_mode():
            return functional.sigmoid(x)
        helper = LayerHelper("sigmoid")
        out = helper.create_variable_for_type_inference(x.dtype)
        helper.append_op(type="sigmoid", inputs={"X": x}, outputs={"Out": out})
        return out


class MapHead(nn.Sequential):
    """Head for one map in [0, 1], at four times the input size: [N, channels, H, W] -> [N, 1, 4 H, 4 W]."""

    def __init__(self, channels: int):
        inner = channels // 4
        super().__init__(
            ConvNormAct(channels, inner, 3, activation=nn.ReLU),
            nn.Conv2DTranspose(inner, inner, 2, 2, bias_attr=False),
            nn.BatchNorm2D(inner),
            nn.ReLU(),
            nn.Conv2DTranspose(inner, 1, 2, 2),
            Sigmoid(),
        )


class DB(nn.Layer):
    """Text segmentation with differentiable binarization, in which the threshold is learned.

    Input: image [N, 3, H, W] float32, H and W multiples of 32. Output in evaluation mode: probability [N, 1, H, W]
    float32; in training mode [N, 3, H, W]: probability, threshold and the approximate binary map of both.

    Attributes:
        typical_input: input shape for cost and latency measurements.
        training_only: see `models.state.training_only`.
    """

    training_only = ("threshold.",)

    def __init__(self, backbone: MobileNetV3, channels: int):
        super().__init__()
        self.typical_input = (1, 3, 640, 640)
        self.backbone = backbone
        self.neck = FeaturePyramid(backbone.map_channels[-LEVELS:], channels)
        self.probability = MapHead(channels)
        self.threshold = MapHead(channels)

    def forward(self, image):
        return self.outputs(image)["maps"] if self.training else self.probability(self.features(image))

    def outputs(self, image) -> dict[str, paddle.Tensor]:
        """Return {"features": [N, channels, H/4, W/4] of the neck, "maps": [N, 3, H, W] as in training mode}."""
        features = self.features(image)
        probability, threshold = self.probability(features), self.threshold(features)
        binary = functional.sigmoid(STEEPNESS * (probability - threshold))
        return {"features": features, "maps": paddle.concat([probability, threshold, binary], axis=1)}

    def features(self, image) -> paddle.Tensor:
        """Return the input of both heads, [N, channels, H/4, W/4]."""
        return self.neck(self.backbone.maps(image)[-LEVELS:])


def db_mv3_slim(
    backbone: str = "large", scale: float = 0.5, se: bool = False, hard_swish: bool = False, channels: int = 96
) -> DB:
    """Return the small detector."""
    return DB(MobileNetV3(backbone, scale, se, hard_swish, PAGE_STRIDES), channels)


def db_teacher(
    backbone: str = "large", scale: float = 1.0, se: bool = True, hard_swish: bool = True, channels: int = 256
) -> DB:
    """Return the large detector, the teacher in distillation."""
    return DB(MobileNetV3(backbone, scale, se, hard_swish, PAGE_STRIDES), channels)
