"""CRNN for text lines (Shi et al. 2015, arXiv:1507.05717) on MobileNetV3, as in PP-OCR (arXiv:2009.09941)."""

from __future__ import annotations

from paddle import nn

from ppocr_slim.models.mobilenet_v3 import MobileNetV3

MIN_HEIGHT, MAX_HEIGHT = 32, 64
WIDTH_STRIDE = 4  # input columns an output step stands for
LAST_EXPANSION = 6  # MobileNetV3's last convolution widens by this factor


class CRNN(nn.Layer):
    """Convolutions, BiLSTM and CTC head for one text line.

    image [N, 3, height, W] float32 in [-1, 1] -> logits [N, T, classes] float32, T = ceil(W / 4), class 0 the CTC
    blank. Every width is legal; the height is fixed when the model is built.
    """

    def __init__(self, backbone: MobileNetV3, height: int, hidden: int, layers: int, dropout: float, classes: int):
        super().__init__()
        if not MIN_HEIGHT <= height <= MAX_HEIGHT:
            raise ValueError(f"height {height} is not within {MIN_HEIGHT} to {MAX_HEIGHT}")
        rows = height
        for _ in range(5):  # the trunk's five halvings, each rounding up
            rows = (rows + 1) // 2
        self.height = height
        self.backbone = backbone
        features = backbone.out_channels * LAST_EXPANSION
        # MobileNetV3's last 1x1 convolution, but over the rows that are left: a mean over them would forget whether
        # a mark stood above or below its letter.
        self.collapse = nn.Sequential(
            nn.Conv2D(backbone.out_channels, features, (rows, 1), bias_attr=False), nn.BatchNorm2D(features), nn.ReLU()
        )
        # One mask for all time steps (Gal and Ghahramani 2016, arXiv:1512.05287); drawing one a step is slow, too.
        self.dropout = nn.Dropout(dropout, axis=[0, 2])
        self.encoder = nn.LSTM(features, hidden, layers, direction="bidirect")
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, image):
        steps = self.collapse(self.backbone(image)).squeeze(2).transpose([0, 2, 1])  # [N, T, C]
        encoded, _ = self.encoder(self.dropout(steps))
        return self.head(self.dropout(encoded))


def crnn_mv3_slim(
    classes: int,
    height: int = 40,
    backbone: str = "small",
    scale: float = 0.75,
    se: bool = False,
    hard_swish: bool = False,
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.1,
) -> CRNN:
    """The recognizer that ships: at most 1.6 M parameters with its defaults."""
    return CRNN(MobileNetV3(backbone, scale, se, hard_swish), height, hidden, layers, dropout, classes)


def crnn_teacher(
    classes: int,
    height: int = 48,
    backbone: str = "large",
    scale: float = 1.0,
    se: bool = True,
    hard_swish: bool = True,
    hidden: int = 256,
    layers: int = 2,
    dropout: float = 0.2,
) -> CRNN:
    """The large recognizer that slim ones learn from."""
    return CRNN(MobileNetV3(backbone, scale, se, hard_swish), height, hidden, layers, dropout, classes)


def steps_for_width(width: int) -> int:
    """Output steps T of a CRNN for an image of `width` columns."""
    return -(-width // WIDTH_STRIDE)
