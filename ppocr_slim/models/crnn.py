"""CRNN for text lines (Shi et al. 2015, arXiv:1507.05717) on MobileNetV3, as in PP-OCR (arXiv:2009.09941)."""

from __future__ import annotations

import paddle
from paddle import nn

from ppocr_slim.models.mobilenet_v3 import MobileNetV3

MIN_HEIGHT, MAX_HEIGHT = 32, 64
WIDTH_STRIDE = 4  # input columns an output step stands for


class HeightPool(nn.Layer):
    """A learned weighted sum over the height: [N, C, H, W] -> [N, C, W].

    A mean would forget whether a mark stood above or below its letter; one weight a channel and row keeps that for
    C x H parameters. It starts as the mean.
    """

    def __init__(self, channels: int, height: int):
        super().__init__()
        start = nn.initializer.Constant(1.0 / height)
        self.weight = self.create_parameter([1, channels, height, 1], default_initializer=start)

    def forward(self, x):
        return (x * self.weight).sum(axis=2)


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
        self.pool = HeightPool(backbone.out_channels, rows)
        self.dropout = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0
        self.encoder = nn.LSTM(backbone.out_channels, hidden, layers, direction="bidirect", dropout=between)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, image):
        steps = self.pool(self.backbone(image)).transpose([0, 2, 1])  # [N, T, C]
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


def parameter_count(model: nn.Layer) -> int:
    """Trainable numbers in a model."""
    return sum(int(p.size) for p in model.parameters() if p.trainable)


def flops(model: nn.Layer, shape) -> int:
    """Multiply-adds of one forward pass on `shape` [N, 3, H, W]: convolutions, linear layers and LSTMs.

    Paddle's own counter leaves the LSTM out, which is a third of a slim recognizer.
    """
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        if isinstance(layer, nn.Conv2D):
            total += int(output.size) * int(layer.weight.size) // int(layer.weight.shape[0])
        elif isinstance(layer, nn.Linear):
            total += int(output.size) * int(layer.weight.shape[0])
        elif isinstance(layer, nn.LSTM):
            weights = sum(int(p.size) for p in layer.parameters() if len(p.shape) == 2)
            total += int(inputs[0].shape[0]) * int(inputs[0].shape[1]) * weights

    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers(include_self=True)]
    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros(shape))
    finally:
        for hook in hooks:
            hook.remove()
        if was_training:
            model.train()
    return total
