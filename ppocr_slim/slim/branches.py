"""Auxiliary branches that guide a recognizer's training and are dropped afterwards: no bundle has them."""

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
# The five combining tone marks of Vietnamese; a syllable without one has the level tone.
TONE_MARKS = ("\u0301", "\u0300", "\u0309", "\u0303", "\u0323")
PAD = -1  # no character


class _Branch(Technique):
    """A second head on the features of the convolutions, before the neck, which learn from its loss."""

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Build the branch.

        Args:
            model: the recognizer.
            context: the stage's.

        Raises:
            SlimError: the network is no recognizer.
        """
        if not isinstance(context.card.spec, RecSpec):
            raise SlimError(
                f"{self.name} guides recognizers (task rec), but this network is of task {context.card.spec.task}"
            )
        paddle.seed(context.seed + SEED)
        self.branch = self._build(model.feature_channels, context.card.spec.classes)

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        raise NotImplementedError

    def extras(self) -> dict[str, nn.Layer]:
        """Return the branch."""
        return {self.name: self.branch}


class AttentionGuidance(_Branch):
    """Guided training of CTC (GTC, Hu et al. 2020, arXiv:2002.01276): an attention decoder shares the features.

    CTC assumes independent time steps; attention does not, and features that serve both are better ones. The decoder is
    NRTR's (Sheng et al. 2019, arXiv:1806.00926), as in PP-OCRv4.
    """

    name = "guide"

    def __init__(self, settings: Guide):
        self.settings = settings

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        return AttentionReader(channels, len(classes), self.settings.width, self.settings.layers)

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return "guide": the cross-entropy averaged over the characters, with label smoothing."""
        inputs, targets = teacher_forcing(batch.labels, batch.lengths)
        logits = self.branch(outputs["features"], paddle.to_tensor(inputs))
        real = paddle.to_tensor(np.flatnonzero(targets != PAD))
        predicted = paddle.gather(logits.reshape([-1, logits.shape[2]]), real)
        characters = paddle.to_tensor(targets[targets != PAD])
        loss = functional.cross_entropy(predicted, characters, label_smoothing=self.settings.label_smoothing)
        return {"guide": loss * self.settings.weight}


def teacher_forcing(labels: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets of an autoregressive decoder that is trained by teacher forcing.

    Class 0, CTC's blank, is in no text: it begins and ends each.

    Args:
        labels: classes [N, L], padded.
        lengths: characters of each text line, [N].

    Returns:
        Inputs [N, L + 1] int64, and targets [N, L + 1] int64 with `PAD` behind the end.
    """
    inputs = np.pad(labels.astype(np.int64), ((0, 0), (1, 0)))
    targets = np.pad(labels.astype(np.int64), ((0, 0), (0, 1)))
    behind = np.arange(targets.shape[1]) > lengths[:, None]
    targets[behind] = PAD
    return inputs, targets


class ToneGuidance(_Branch):
    """A second CTC head that reads the tone of each word.

    Tone marks are small and far from the baseline, and the loss of the characters neglects them.
    """

    name = "tones"

    def __init__(self, settings: Tones):
        self.settings = settings

    def _build(self, channels: int, classes: Sequence[str]) -> nn.Layer:
        self._tones = tone_classes(classes)
        if " " not in classes:
            raise SlimError("tones are read word by word, but the network's dictionary has no space character")
        self._space = list(classes).index(" ")
        return _ToneHead(channels)

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return "tones": the CTC loss of the words' tones, averaged over the text lines."""
        lines = [self._tones_of(label[:length]) for label, length in zip(batch.labels, batch.lengths)]
        lengths = np.array([len(line) for line in lines])
        tones = np.zeros((len(lines), lengths.max()), np.int32)
        for number, line in enumerate(lines):
            tones[number, : len(line)] = line
        return {"tones": self.branch(outputs["features"], tones, lengths) * self.settings.weight}

    def _tones_of(self, labels: np.ndarray) -> list[int]:
        words = np.split(labels, np.flatnonzero(labels == self._space))
        return [max([1, *(self._tones[label] for label in word)]) for word in words]


def tone_classes(classes: Sequence[str]) -> list[int]:
    """Return the tone class of each character: 1 without a mark, then 2 and up in the order of `TONE_MARKS`."""
    found = []
    for character in classes:
        marks = [mark for mark in unicodedata.normalize("NFD", character) if mark in TONE_MARKS]
        found.append(2 + TONE_MARKS.index(marks[0]) if marks else 1)
    return found


class _ToneHead(nn.Layer):
    """CTC head and loss of the words' tones: features [N, T, C] -> scalar."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = nn.Linear(channels, 2 + len(TONE_MARKS))  # blank, level, the marks
        self.criterion = nn.CTCLoss(blank=0)

    def forward(self, features: paddle.Tensor, tones: np.ndarray, lengths: np.ndarray) -> paddle.Tensor:
        logits = self.head(features).transpose([1, 0, 2])
        time_steps = paddle.full([logits.shape[1]], logits.shape[0], dtype="int64")
        return self.criterion(logits, paddle.to_tensor(tones), time_steps, paddle.to_tensor(lengths.astype(np.int64)))
