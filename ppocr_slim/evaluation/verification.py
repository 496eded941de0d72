"""Parity checks of exported networks, by task: inputs to compare outputs on, and labelled samples to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from ppocr_slim.evaluation.hmean import Found, score_page
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier, half_turned
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import (
    line_input,
    median_line,
    padded_width,
    pages_to_batch,
    resize_page,
    resize_to_height,
    to_batch,
)
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.sessions import Predict
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec, Spec

EXTRA_WIDTHS = (100, 1604)  # pixels; neither a multiple of the padding nor a usual width of a text line
BATCH = 8  # samples that are also compared in one batch

_T = TypeVar("_T")


def evenly_spaced(samples: Sequence[_T], count: int) -> list[_T]:
    """Return `count` of the samples (all, if there are fewer), evenly spaced from first to last."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[index] for index in chosen]


class ParityCheck(ABC):
    """Labelled samples on which two formats of a network are compared.

    Attributes:
        subject: plural name of the predictions, in the keys of results and in messages.
        metric: name of `error`.
        max_differing: fraction of the samples on which two formats may disagree.
    """

    subject: ClassVar[str]
    metric: ClassVar[str]
    max_differing: ClassVar[float] = 0.0

    @classmethod
    @abstractmethod
    def from_samples(cls, spec: Any, samples: Sequence[Any]) -> ParityCheck:
        """Return the check on labelled samples.

        Raises:
            SlimError: an image cannot be read.
        """

    @staticmethod
    @abstractmethod
    def inputs(spec: Any, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield images [h, w, 3] uint8 as the runtime passes them to the network, one per batch."""

    @abstractmethod
    def batches(self) -> Iterator[np.ndarray]:
        """Yield the inputs on which probabilities are compared."""

    @abstractmethod
    def typical_input(self) -> np.ndarray:
        """Return the input for latency measurements."""

    @abstractmethod
    def predict(self, session: Predict) -> list[Any]:
        """Return the prediction for each sample."""

    @abstractmethod
    def error(self, predictions: Sequence[Any]) -> float:
        """Return the error rate of predictions for all samples; 0 is best, a CER may be more than 1."""

    def agree(self, one: Any, other: Any) -> bool:
        """Return whether two predictions for a sample agree."""
        return one == other


class LineParityCheck(ParityCheck):
    """Text lines and their transcriptions."""

    subject, metric = "texts", "cer"

    def __init__(self, spec: RecSpec, images: Sequence[np.ndarray], references: Sequence[str] = ()):
        self.spec, self.images, self.references = spec, list(images), list(references)
        self._lines = [resize_to_height(image, spec.height, spec.max_width) for image in self.images]

    @classmethod
    def from_samples(cls, spec: RecSpec, samples: Sequence[Any]) -> LineParityCheck:
        return cls(spec, [load_image(sample.path) for sample in samples], [sample.text for sample in samples])

    @staticmethod
    def inputs(spec: RecSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield line_input(resize_to_height(image, spec.height, spec.max_width))

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the lines, two of them at unusual widths, and some in one batch, as wide as the widest of them."""
        yield from self.inputs(self.spec, self._lines)
        for width in EXTRA_WIDTHS:
            squeezed = [resize_to_height(line, self.spec.height, width) for line in self._lines[:2]]
            yield to_batch(squeezed, width)
        together = evenly_spaced(self._lines, BATCH)
        yield to_batch(together, padded_width(max(line.shape[1] for line in together)))

    def typical_input(self) -> np.ndarray:
        """Return the line of median width."""
        return line_input(median_line(self._lines))

    def predict(self, session: Predict) -> list[str]:
        return [line.text for line in Recognizer(session, self.spec).read(self.images)]

    def error(self, predictions: Sequence[str]) -> float:
        """Return the CER."""
        return score_lines(self.references, predictions).cer


class PageParityCheck(ParityCheck):
    """Pages and the boxes of their text lines."""

    subject, metric = "pages", "hmean_missing"
    max_differing = 0.05  # one pixel on the other side of the threshold may join or split lines

    def __init__(self, spec: DetSpec, images: Sequence[np.ndarray], truths: Sequence[tuple[Any, Any]]):
        self.spec, self.images, self.truths = spec, list(images), list(truths)

    @classmethod
    def from_samples(cls, spec: DetSpec, samples: Sequence[Any]) -> PageParityCheck:
        truths = [(sample.outlines, sample.ignored) for sample in samples]
        return cls(spec, [load_image(sample.path) for sample in samples], truths)

    @staticmethod
    def inputs(spec: DetSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield pages_to_batch([resize_page(image, spec.longer_side)])

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the pages, and in one batch the first pixels of some of them, reshaped to small pages."""
        yield from self.inputs(self.spec, self.images)
        yield pages_to_batch([np.resize(image, (64, 96, 3)) for image in self.images[:BATCH]])

    def typical_input(self) -> np.ndarray:
        """Return the page of median size."""
        pages = sorted((resize_page(image, self.spec.longer_side) for image in self.images), key=lambda page: page.size)
        return pages_to_batch([pages[len(pages) // 2]])

    def predict(self, session: Predict) -> list[list[np.ndarray]]:
        detector = Detector(session, self.spec)
        return [[box.points for box in detector.detect(image)] for image in self.images]

    def error(self, predictions: Sequence[list[np.ndarray]]) -> float:
        """Return 1 - hmean."""
        pages = [score_page(*truth, found) for truth, found in zip(self.truths, predictions)]
        return 1 - sum(pages, Found()).hmean

    def agree(self, one: list[np.ndarray], other: list[np.ndarray]) -> bool:
        """Return whether both have the same text lines, at an IoU of more than 0.5."""
        return score_page(one, [False] * len(one), other).hmean == 1


class CropParityCheck(ParityCheck):
    """Text lines, each upright and turned by 180 degrees."""

    subject, metric = "directions", "wrong"

    def __init__(self, spec: ClsSpec, images: Sequence[np.ndarray]):
        self.spec = spec
        self.images = [shown for image in images for shown in (image, half_turned(image))]

    @classmethod
    def from_samples(cls, spec: ClsSpec, samples: Sequence[Any]) -> CropParityCheck:
        return cls(spec, [load_image(sample.path) for sample in samples])

    @staticmethod
    def inputs(spec: ClsSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield to_batch([resize_to_height(image, spec.height, spec.width)], spec.width)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the images, and some of them in one batch."""
        single = list(self.inputs(self.spec, self.images))
        yield from single
        yield np.concatenate(evenly_spaced(single, BATCH))

    def typical_input(self) -> np.ndarray:
        """Return the first image: all have the same size."""
        return next(self.inputs(self.spec, self.images))

    def predict(self, session: Predict) -> list[int]:
        return [one.angle for one in DirectionClassifier(session, self.spec).classify(self.images)]

    def error(self, predictions: Sequence[int]) -> float:
        """Return the fraction of wrong directions."""
        return float(np.mean([angle != 180 * (number % 2) for number, angle in enumerate(predictions)]))


PARITY_CHECKS: dict[type[Spec], type[ParityCheck]] = {
    RecSpec: LineParityCheck,
    DetSpec: PageParityCheck,
    ClsSpec: CropParityCheck,
}
