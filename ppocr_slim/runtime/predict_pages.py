"""Prediction on files with the pipeline, the detector or the direction classifier.

There is one record a page or crop, also for those that cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.runtime.boxes import Box
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import Direction, DirectionClassifier
from ppocr_slim.runtime.documents import PageImage, read_pages
from ppocr_slim.runtime.pipeline import PageReading, Pipeline
from ppocr_slim.runtime.predict import timed_batches
from ppocr_slim.runtime.types import TextLine


@dataclass(frozen=True, eq=False)
class PagePrediction:
    """A page and its text.

    Attributes:
        source: the page, or the error where it cannot be read.
        reading: None where there is an error.
    """

    source: PageImage
    reading: PageReading | None = None

    def to_json(self) -> dict[str, Any]:
        """Return path, width, height, lines, dropped and ms; with an error path and error only.

        Where the file has several pages there is also page, from 1. `dropped` is the number of boxes without text or
        with too little confidence.
        """
        if self.reading is None:
            return {**_name(self.source), "error": self.source.error}
        return {
            **_name(self.source),
            "width": self.reading.width,
            "height": self.reading.height,
            "lines": [_line_to_json(line) for line in self.reading.lines],
            "dropped": len(self.reading.dropped),
            "ms": {stage: round(ms, 2) for stage, ms in self.reading.ms.items()},
        }


def read_documents(pipeline: Pipeline, paths: Sequence[Path]) -> Iterator[PagePrediction]:
    """Yield the text of each page of the files, in their order, or the error of a file or page that cannot be read."""
    for path in paths:
        for page in read_pages(path):
            yield PagePrediction(page, None if page.image is None else pipeline.read(page.image))
            del page  # or it would stay in memory while the next one is decoded


@dataclass(frozen=True, eq=False)
class PageBoxes:
    """A page and its text boxes.

    Attributes:
        source: the page, or the error where it cannot be read.
        boxes: in reading order; None where there is an error.
        ms: milliseconds from pixels to boxes.
    """

    source: PageImage
    boxes: list[Box] | None = None
    ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return path, width, height, boxes (points and score of each) and ms; with an error path and error only.

        Where the file has several pages there is also page, from 1.
        """
        if self.boxes is None or self.source.image is None:
            return {**_name(self.source), "error": self.source.error}
        height, width = self.source.image.shape[:2]
        return {
            **_name(self.source),
            "width": width,
            "height": height,
            "boxes": [{"points": _points(box.points.tolist()), "score": round(box.score, 4)} for box in self.boxes],
            "ms": round(self.ms, 2),
        }


def detect_documents(detector: Detector, paths: Sequence[Path]) -> Iterator[PageBoxes]:
    """Yield the boxes of each page of the files, in their order, or the error of a file or page that cannot be read."""
    for path in paths:
        for page in read_pages(path):
            if page.image is None:
                yield PageBoxes(page)
            else:
                began = time.perf_counter()
                boxes = detector.detect(page.image)
                yield PageBoxes(page, boxes, 1000 * (time.perf_counter() - began))
            del page  # or it would stay in memory while the next one is decoded


@dataclass(frozen=True)
class FileDirection:
    """The direction of a crop, or the error that came of reading its file.

    Attributes:
        path: of the file.
        direction: None where there is an error.
        ms: milliseconds from pixels to direction; in a batch, its time divided by its crops.
        error: None where there is a direction.
    """

    path: Path
    direction: Direction | None = None
    ms: float = 0.0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return path, angle, score, turned and ms; with an error path and error only."""
        if self.direction is None:
            return {"path": str(self.path), "error": self.error}
        return {
            "path": str(self.path),
            "angle": self.direction.angle,
            "score": round(self.direction.score, 4),
            "turned": self.direction.turned,
            "ms": round(self.ms, 2),
        }


def classify_files(
    classifier: DirectionClassifier, paths: Sequence[Path], batch_size: int = 1
) -> Iterator[FileDirection]:
    """Yield the direction of the crop in each file, in their order, or the error of a file that cannot be read."""

    def classify(crops: list[np.ndarray]) -> list[Direction]:
        return classifier.classify(crops, batch_size)

    for path, direction, ms, error in timed_batches(paths, batch_size, classify):
        yield FileDirection(path, direction, ms, error)


def page_name(page: PageImage) -> str:
    """Return the path of a page's file, followed by the page where it has several."""
    return str(page.path) if page.page is None else f"{page.path} page {page.page}"


def _name(page: PageImage) -> dict[str, Any]:
    return {"path": str(page.path), **({} if page.page is None else {"page": page.page})}


def _points(points: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[round(x, 1), round(y, 1)] for x, y in points]


def _line_to_json(line: TextLine) -> dict[str, Any]:
    assert line.box is not None and line.score is not None  # every line of a page has both
    return {
        "points": _points(line.box),
        "text": line.text,
        "confidence": round(line.confidence, 4),
        "direction": line.direction,
        "score": round(line.score, 4),
    }
