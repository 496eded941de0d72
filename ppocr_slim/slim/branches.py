"""Branches that help a recognizer to learn and are dropped after: no checkpoint and no bundle has them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

from ppocr_slim.config.schema import Guide, Tones
from ppocr_slim.data.lines import Batch
from ppocr_slim.errors import SlimError
from ppocr_slim.models.attention_reader import AttentionReader
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.task import Outputs

SEED = 2_000_003  # added to the experiment's seed for a branch's initial weights
# The five marks that tell a Vietnamese syllable's tone, decomposed; a syllable without one has the level tone.
TONE_MARKS = ("\u0301", "\u0300", "\u0309", "\u0303", "\u0323")
PAD = -1  # no letter


class _Branch(Technique):
    """A second head on the features of the convolutions, before the LSTM; what it learns, they learn."""

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Build the branch. SlimError where the network is no recognizer."""
        if not isinstance(context.card.spec, RecSpec):
            raise SlimError(f"{self.name} is a branch of recognizers; this network is one of {context.card.spec.task}")
        paddle.seed(context.seed + SEED)
        self.branch = self._build(model.encoder.input_size, context.card.spec.classes)

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        raise NotImplementedError

    def extras(self) -> dict[str, nn.Layer]:
        """The branch."""
        return {self.name: self.branch}


class AttentionGuidance(_Branch):
    """An attention decoder reads the same features, letter after letter.

    CTC takes time steps for independent; attention does not, and features that serve both are better ones (GTC, Hu et
    al. 2020, arXiv:2002.01276). The decoder is NRTR's (Sheng et al. 2019, arXiv:1806.00926), as in PP-OCRv4.
    """

    name = "guide"

    def __init__(self, settings: Guide):
        self.settings = settings

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        return AttentionReader(channels, len(classes), self.settings.width, self.settings.layers)

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """{"guide": the mean cross-entropy of a letter, smoothed}."""
        given, wanted = teacher_forcing(batch.labels, batch.lengths)
        logits = self.branch(outputs["features"], paddle.to_tensor(given))
        there = paddle.to_tensor(np.flatnonzero(wanted != PAD))
        said = paddle.gather(logits.reshape([-1, logits.shape[2]]), there)
        letters = paddle.to_tensor(wanted[wanted != PAD])
        loss = functional.cross_entropy(said, letters, label_smoothing=self.settings.label_smoothing)
        return {"guide": loss * self.settings.weight}


def teacher_forcing(labels: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a decoder is given and what it is to say: labels [N, L], lengths [N] -> two arrays [N, L + 1] int64.

    Class 0, CTC's blank, is in no text: it begins and ends each. Behind the end stands `PAD`.
    """
    given = np.pad(labels.astype(np.int64), ((0, 0), (1, 0)))
    wanted = np.pad(labels.astype(np.int64), ((0, 0), (0, 1)))
    behind = np.arange(wanted.shape[1]) > lengths[:, None]
    wanted[behind] = PAD
    return given, wanted


class ToneGuidance(_Branch):
    """A second CTC reads the tone of each word: small marks far from the baseline, which the letters' loss neglects."""

    name = "tones"

    def __init__(self, settings: Tones):
        self.settings = settings

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        self._tones = tone_classes(classes)
        if " " not in classes:
            raise SlimError("tones are told word by word: the network's characters lack the space")
        self._space = list(classes).index(" ")
        return _ToneHead(channels)

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """{"tones": mean over rows of the CTC loss per word}."""
        rows = [self._tones_of(row[:length]) for row, length in zip(batch.labels, batch.lengths)]
        lengths = np.array([len(row) for row in rows])
        tones = np.zeros((len(rows), lengths.max()), np.int32)
        for number, row in enumerate(rows):
            tones[number, : len(row)] = row
        return {"tones": self.branch(outputs["features"], tones, lengths) * self.settings.weight}

    def _tones_of(self, labels: np.ndarray) -> list[int]:
        words = np.split(labels, np.flatnonzero(labels == self._space))
        return [max([1, *(self._tones[label] for label in word)]) for word in words]


def tone_classes(classes: Sequence[str]) -> list[int]:
    """Of each character the tone that it marks: 1 for none, 2 and on in the order of `TONE_MARKS`."""
    found = []
    for character in classes:
        marks = [mark for mark in unicodedata.normalize("NFD", character) if mark in TONE_MARKS]
        found.append(2 + TONE_MARKS.index(marks[0]) if marks else 1)
    return found


class _ToneHead(nn.Layer):
    """Features [N, T, C] -> the CTC loss of the words' tones, a scalar."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = nn.Linear(channels, 2 + len(TONE_MARKS))  # blank, level, the marks
        self.criterion = nn.CTCLoss(blank=0)

    def forward(self, features: paddle.Tensor, tones: np.ndarray, lengths: np.ndarray) -> paddle.Tensor:
        logits = self.head(features).transpose([1, 0, 2])
        steps = paddle.full([logits.shape[1]], logits.shape[0], dtype="int64")
        return self.criterion(logits, paddle.to_tensor(tones), steps, paddle.to_tensor(lengths.astype(np.int64)))
