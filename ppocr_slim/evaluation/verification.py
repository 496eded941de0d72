"""What an exported network has to pass, by task: inputs on which its numbers are compared, samples that it reads."""

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

EXTRA_WIDTHS = (100, 1604)  # pixels; neither a multiple of the padding nor a usual width of a row
BATCH = 8  # samples compared in one batch too

_T = TypeVar("_T")


def evenly_spaced(samples: Sequence[_T], count: int) -> list[_T]:
    """`count` of the samples (all, if there are fewer), evenly_spaced evenly from first to last."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[index] for index in chosen]


class ParityCheck(ABC):
    """Samples with their labels, and what a network makes of them.

    Attributes:
        things: what is read, for figures and messages.
        figure: the name of `error`.
        most: samples that a recipe's export takes.
        may_differ: share of the samples that two formats may read differently.
    """

    things: ClassVar[str]
    figure: ClassVar[str]
    most: ClassVar[int] = 200
    may_differ: ClassVar[float] = 0.0

    @classmethod
    @abstractmethod
    def of(cls, spec: Any, samples: Sequence[Any]) -> ParityCheck:
        """The exam on labelled samples. SlimError where an image cannot be read."""

    @staticmethod
    @abstractmethod
    def inputs(spec: Any, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Images [h, w, 3] uint8 as the runtime feeds them to the network, one a batch."""

    @abstractmethod
    def batches(self) -> Iterator[np.ndarray]:
        """Inputs on which probabilities are compared."""

    @abstractmethod
    def typical(self) -> np.ndarray:
        """The input on which time is taken."""

    @abstractmethod
    def read(self, session: Predict) -> list[Any]:
        """What is read of each sample."""

    @abstractmethod
    def error(self, readings: Sequence[Any]) -> float:
        """The share that is wrong, 0 to 1 or more."""

    def same(self, one: Any, other: Any) -> bool:
        return one == other


class LineParityCheck(ParityCheck):
    """Rows and their texts."""

    things, figure = "texts", "cer"

    def __init__(self, spec: RecSpec, images: Sequence[np.ndarray], references: Sequence[str] = ()):
        self.spec, self.images, self.references = spec, list(images), list(references)
        self._rows = [resize_to_height(image, spec.height, spec.max_width) for image in self.images]

    @classmethod
    def of(cls, spec: RecSpec, samples: Sequence[Any]) -> LineParityCheck:
        return cls(spec, [load_image(sample.path) for sample in samples], [sample.text for sample in samples])

    @staticmethod
    def inputs(spec: RecSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield line_input(resize_to_height(image, spec.height, spec.max_width))

    def batches(self) -> Iterator[np.ndarray]:
        """The rows, two of them at unusual widths, and some in one batch, as wide as the widest of them."""
        yield from self.inputs(self.spec, self._rows)
        for width in EXTRA_WIDTHS:
            squeezed = [resize_to_height(row, self.spec.height, width) for row in self._rows[:2]]
            yield to_batch(squeezed, width)
        together = evenly_spaced(self._rows, BATCH)
        yield to_batch(together, padded_width(max(row.shape[1] for row in together)))

    def typical(self) -> np.ndarray:
        """The row of median width."""
        return line_input(median_line(self._rows))

    def read(self, session: Predict) -> list[str]:
        return [line.text for line in Recognizer(session, self.spec).read(self.images)]

    def error(self, readings: Sequence[str]) -> float:
        return score_lines(self.references, readings).cer


class PageParityCheck(ParityCheck):
    """Pages and where their lines stand."""

    things, figure = "pages", "hmean_missing"
    most = 40
    may_differ = 0.05  # a pixel on the other side of the threshold may join two lines, or part them

    def __init__(self, spec: DetSpec, images: Sequence[np.ndarray], truths: Sequence[tuple[Any, Any]]):
        self.spec, self.images, self.truths = spec, list(images), list(truths)

    @classmethod
    def of(cls, spec: DetSpec, samples: Sequence[Any]) -> PageParityCheck:
        truths = [(sample.outlines, sample.ignored) for sample in samples]
        return cls(spec, [load_image(sample.path) for sample in samples], truths)

    @staticmethod
    def inputs(spec: DetSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield pages_to_batch([resize_page(image, spec.longer_side)])

    def batches(self) -> Iterator[np.ndarray]:
        """The pages, and in one batch the first pixels of some of them, laid out as small pages."""
        yield from self.inputs(self.spec, self.images)
        yield pages_to_batch([np.resize(image, (64, 96, 3)) for image in self.images[:BATCH]])

    def typical(self) -> np.ndarray:
        """The page of median size."""
        pages = sorted((resize_page(image, self.spec.longer_side) for image in self.images), key=lambda page: page.size)
        return pages_to_batch([pages[len(pages) // 2]])

    def read(self, session: Predict) -> list[list[np.ndarray]]:
        detector = Detector(session, self.spec)
        return [[box.points for box in detector.detect(image)] for image in self.images]

    def error(self, readings: Sequence[list[np.ndarray]]) -> float:
        """1 - hmean."""
        pages = [score_page(*truth, found) for truth, found in zip(self.truths, readings)]
        return 1 - sum(pages, Found()).hmean

    def same(self, one: list[np.ndarray], other: list[np.ndarray]) -> bool:
        """Whether each finds all that the other does."""
        return score_page(one, [False] * len(one), other).hmean == 1


class CropParityCheck(ParityCheck):
    """Rows as they are, and turned."""

    things, figure = "directions", "wrong"

    def __init__(self, spec: ClsSpec, images: Sequence[np.ndarray]):
        self.spec = spec
        self.images = [picture for image in images for picture in (image, half_turned(image))]

    @classmethod
    def of(cls, spec: ClsSpec, samples: Sequence[Any]) -> CropParityCheck:
        return cls(spec, [load_image(sample.path) for sample in samples])

    @staticmethod
    def inputs(spec: ClsSpec, images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for image in images:
            yield to_batch([resize_to_height(image, spec.height, spec.width)], spec.width)

    def batches(self) -> Iterator[np.ndarray]:
        """The pictures, and some in one batch."""
        single = list(self.inputs(self.spec, self.images))
        yield from single
        yield np.concatenate(evenly_spaced(single, BATCH))

    def typical(self) -> np.ndarray:
        """Any: all have one size."""
        return next(self.inputs(self.spec, self.images))

    def read(self, session: Predict) -> list[int]:
        return [one.angle for one in DirectionClassifier(session, self.spec).classify(self.images)]

    def error(self, readings: Sequence[int]) -> float:
        return float(np.mean([angle != 180 * (number % 2) for number, angle in enumerate(readings)]))


PARITY_CHECKS: dict[type[Spec], type[ParityCheck]] = {
    RecSpec: LineParityCheck,
    DetSpec: PageParityCheck,
    ClsSpec: CropParityCheck,
}
