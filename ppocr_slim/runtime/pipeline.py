"""The pipeline, which reads whole pages: detect lines, cut them out, turn those upside down, recognize.

>>> from ppocr_slim.runtime.images import load_image
>>> from ppocr_slim.runtime.pipeline import Pipeline
>>> for line in Pipeline.from_bundles().read(load_image("page.jpg")).lines:
...     print(line.text)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.boxes import Box, rectify
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.types import Point, TextLine
from ppocr_slim.text.corrections import check_corrections, correct

BATCH_SIZE = 8
DROP_SCORE = 0.5


@dataclass(frozen=True)
class PageReading:
    """The text of a page.

    Attributes:
        width, height: of the page, pixels.
        lines: in reading order, each with its box.
        dropped: boxes without text (it is "") or with too little confidence: rules, stamps and blank fields that the
            detector took for text, and scribble.
        ms: milliseconds of the stages "det", "cls" (0.0 without a direction classifier) and "rec", and of all together
            ("total"), which includes cutting the lines out and corrections.
    """

    width: int
    height: int
    lines: list[TextLine]
    dropped: list[TextLine]
    ms: dict[str, float]


class Pipeline:
    """The chain of a detector, a direction classifier and a recognizer.

    Args:
        recognizer: reads the lines.
        detector: finds the lines.
        direction: finds the lines that stand upside down; None: every line is taken to be upright.
        post: names of `CORRECTIONS`, which are applied to each text in this order.
        batch_size: crops that go through a network together; it changes the speed only.
        drop_score: lines of less confidence are dropped; the name and the default are PaddleOCR's.

    Raises:
        SlimError: an unknown correction, a batch size below 1, or a drop_score outside of 0 to 1.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        detector: Detector,
        direction: DirectionClassifier | None = None,
        post: Sequence[str] = (),
        batch_size: int = BATCH_SIZE,
        drop_score: float = DROP_SCORE,
    ):
        check_corrections(post)
        if batch_size < 1:
            raise SlimError(f"batches of {batch_size} lines cannot be read; give at least 1")
        if not 0 <= drop_score <= 1:
            raise SlimError(f"drop_score is {drop_score}: a confidence is a number from 0 to 1")
        self.recognizer = recognizer
        self.detector = detector
        self.direction = direction
        self.post = tuple(post)
        self.batch_size = batch_size
        self.drop_score = drop_score

    @staticmethod
    def from_bundles(
        rec: str | Path | None = None,
        det: str | Path | None = None,
        cls: str | Path | None = None,
        *,
        with_direction: bool = True,
        post: Sequence[str] = (),
        batch_size: int = BATCH_SIZE,
        drop_score: float = DROP_SCORE,
        engine: str = "onnxruntime",
        threads: int | None = None,
        precision: str = "auto",
        decode: str = "greedy",
    ) -> Pipeline:
        """Open exported bundles, by default those that ship with the package, as a pipeline.

        Args:
            rec, det, cls: folders of bundles.
            with_direction: use a direction classifier.
            post, batch_size, drop_score: see `Pipeline`.
            engine, threads, precision: of each network; see `open_bundle_session`.
            decode: one of `text.decoders.DECODERS`.

        Raises:
            SlimError: a bundle is missing, damaged or of another task, the engine cannot run it, or an argument is
                unknown or out of range.
        """
        opened_by = (engine, threads, precision)
        return Pipeline(
            Recognizer.from_bundle(rec or shipped("rec"), *opened_by, decode),
            Detector.from_bundle(det or shipped("det"), *opened_by),
            DirectionClassifier.from_bundle(cls or shipped("cls"), *opened_by) if with_direction else None,
            post,
            batch_size,
            drop_score,
        )

    def read(self, image: np.ndarray) -> PageReading:
        """Read a page.

        If most lines stand upside down, so does the page: it is read from its other end, and the boxes stay in the
        pixels of the image as it is.

        Args:
            image: [H, W, 3] uint8 BGR.

        Returns:
            The lines of the page; none where it has no text.
        """
        began = time.perf_counter()
        boxes = self.detector.detect(image)
        detected = time.perf_counter()
        quads = self._quads(boxes)
        crops = [rectify(image, quad) for quad in quads]
        cut = time.perf_counter()
        crops, directions = self._upright(crops)
        classified = time.perf_counter()
        texts = self.recognizer.read(crops, self.batch_size)
        recognized = time.perf_counter()
        lines = [
            replace(
                line,
                text=correct(line.text, self.post),
                box=_corners(quad),
                score=box.score,
                direction=direction,
            )
            for line, box, quad, direction in zip(texts, boxes, quads, directions)
        ]
        if 2 * directions.count(180) > len(lines):
            lines.reverse()  # the whole page stands upside down
        ended = time.perf_counter()
        seconds = {
            "det": detected - began,
            "cls": classified - cut if self.direction is not None else 0.0,
            "rec": recognized - classified,
            "total": ended - began,
        }
        return PageReading(
            width=image.shape[1],
            height=image.shape[0],
            lines=[line for line in lines if self._is_kept(line)],
            dropped=[line for line in lines if not self._is_kept(line)],
            ms={stage: 1000 * value for stage, value in seconds.items()},
        )

    def _quads(self, boxes: Sequence[Box]) -> list[np.ndarray]:
        """Return the corners [4, 2] to cut each line out by; of a bent line, those of the rectangle around it."""
        is_bent = self.detector.spec.boxes.polygons
        return [polygons.around(box.points) if is_bent else box.points for box in boxes]

    def _upright(self, crops: list[np.ndarray]) -> tuple[list[np.ndarray], list[int | None]]:
        """Return the crops, those upside down turned, and the `TextLine.direction` of each."""
        if self.direction is None:
            return crops, [None] * len(crops)
        crops, directions = self.direction.upright(crops, self.batch_size)
        return crops, [180 if direction.turned else 0 for direction in directions]

    def _is_kept(self, line: TextLine) -> bool:
        return bool(line.text) and line.confidence >= self.drop_score


def _corners(quad: np.ndarray) -> tuple[Point, Point, Point, Point]:
    """Return the corners [4, 2] of a box as plain numbers."""
    a, b, c, d = ((float(x), float(y)) for x, y in quad)
    return a, b, c, d
