"""Files through the pipeline, the detector or the direction classifier, one record a page or crop, whatever is wrong
with some of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppocr_slim.runtime.boxes import Box
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import Direction, DirectionClassifier
from ppocr_slim.runtime.documents import PageImage, read_pages
from ppocr_slim.runtime.images import load_all
from ppocr_slim.runtime.pipeline import PageReading, Pipeline
from ppocr_slim.runtime.types import TextLine


@dataclass(frozen=True, eq=False)
class PagePrediction:
    """A page and what was read from it.

    Attributes:
        source: the page; it has the error where nothing could be read.
        reading: None where there is an error.
    """

    source: PageImage
    reading: PageReading | None = None

    def to_json(self) -> dict[str, Any]:
        """path, width, height, lines, dropped (how many boxes had no text, or too little confidence), ms; or path,
        error. Where the file has several pages, also page, from 1.
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
    """Read each page of the files, in their order; a broken file or page gives a record with its error."""
    for path in paths:
        for page in read_pages(path):
            yield PagePrediction(page, None if page.image is None else pipeline.read(page.image))
            del page  # or it would stay in memory while the next one is decoded


@dataclass(frozen=True, eq=False)
class PageBoxes:
    """A page and the text found on it.

    Attributes:
        source: the page; it has the error where nothing could be found.
        boxes: in reading order; None where there is an error.
        ms: milliseconds from pixels to boxes.
    """

    source: PageImage
    boxes: list[Box] | None = None
    ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """path, width, height, boxes (points and score of each), ms; or path, error. Where the file has several pages,
        also page, from 1.
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
    """Find the text on each page of the files, in their order; a broken one gives a record with its error."""
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
    """How a crop stands, or why it cannot be told.

    Attributes:
        direction: None where there is an error.
        ms: milliseconds from pixels to direction; in a batch, its time divided by its crops.
        error: None where there is a direction.
    """

    path: Path
    direction: Direction | None = None
    ms: float = 0.0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """path, angle, score, turned, ms; or path, error."""
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
    """Tell how the crops in `paths` stand, in their order; a broken file gives a record with its error."""
    for start in range(0, len(paths), batch_size):
        loaded = load_all(paths[start : start + batch_size])
        crops = [image for _, image, _ in loaded if image is not None]
        began = time.perf_counter()
        directions = iter(classifier.classify(crops, batch_size))
        ms = 1000 * (time.perf_counter() - began) / max(1, len(crops))
        for path, image, error in loaded:
            yield FileDirection(path, error=error) if image is None else FileDirection(path, next(directions), ms)


def page_name(page: PageImage) -> str:
    """Return the file's path, and the page where it has several."""
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
