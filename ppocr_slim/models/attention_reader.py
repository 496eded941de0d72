"""A transformer decoder that reads a text line letter after letter (NRTR, Sheng et al. 2019, arXiv:1806.00926)."""

from __future__ import annotations

import math

import numpy as np
import paddle
from paddle import nn

HEAD_WIDTH = 48  # of one attention head


class AttentionReader(nn.Layer):
    """The letters so far and a line's features -> what the next letter is, for all places of a text at once.

    features [N, T, C] float32, letters [N, L] int64 -> logits [N, L, classes]: those at place i are of letter i + 1 and
    made from the letters up to i alone.
    """

    def __init__(self, channels: int, classes: int, width: int, layers: int, dropout: float = 0.1):
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(classes, width)
        self.memory = nn.Sequential(nn.Linear(channels, width), nn.LayerNorm(width))
        layer = nn.TransformerDecoderLayer(
            width, width // HEAD_WIDTH, 2 * width, dropout, activation="relu", normalize_before=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers, nn.LayerNorm(width))
        self.head = nn.Linear(width, classes)

    def forward(self, features: paddle.Tensor, letters: paddle.Tensor) -> paddle.Tensor:
        memory = self.memory(features) + places(features.shape[1], self.width)
        text = self.embedding(letters) * math.sqrt(self.width) + places(letters.shape[1], self.width)
        later = paddle.triu(paddle.full([letters.shape[1], letters.shape[1]], -1e9), 1)
        return self.head(self.decoder(text, memory, tgt_mask=later))


def places(count: int, width: int) -> paddle.Tensor:
    """Sines and cosines that tell `count` places apart, [count, width] (Vaswani et al. 2017, arXiv:1706.03762)."""
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(count)[:, None] * rates
    return paddle.to_tensor(np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(count, -1).astype(np.float32))
