"""An autoregressive transformer decoder for text lines (NRTR, Sheng et al. 2019, arXiv:1806.00926)."""

from __future__ import annotations

import math

import numpy as np
import paddle
from paddle import nn

HEAD_WIDTH = 48  # width of an attention head


class AttentionReader(nn.Layer):
    """Decoder that predicts the next character of a text from the characters so far and the features of a line.

    Input: features [N, T, C] float32, characters [N, L] int64. Output: logits [N, L, classes]; those at position i are
    for character i + 1 and depend on the characters up to i only.

    Args:
        channels: C.
        classes: number of characters.
        width: width of the decoder, a multiple of `HEAD_WIDTH`.
        layers: number of decoder layers.
        dropout: probability in all layers.
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

    def forward(self, features: paddle.Tensor, characters: paddle.Tensor) -> paddle.Tensor:
        memory = self.memory(features) + positional_encoding(features.shape[1], self.width)
        text = self.embedding(characters) * math.sqrt(self.width) + positional_encoding(characters.shape[1], self.width)
        causal_mask = paddle.triu(paddle.full([characters.shape[1], characters.shape[1]], -1e9), 1)
        return self.head(self.decoder(text, memory, tgt_mask=causal_mask))


def positional_encoding(count: int, width: int) -> paddle.Tensor:
    """Return sinusoidal positional encodings [count, width] (Vaswani et al. 2017, arXiv:1706.03762)."""
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(count)[:, None] * rates
    return paddle.to_tensor(np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(count, -1).astype(np.float32))
