"""Recognition of image files of cropped lines: one record a file, also for files that cannot be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ppocr_slim.runtime.images import load_all
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.text.corrections import correct

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class FileReading:
    """The text of a file, or the error that came of reading it.

    Attributes:
        path: of the file.
        line: None where there is an error.
        ms: milliseconds from pixels to text; in a batch, its time divided by its lines.
        error: None where there is a line.
        read: the text before corrections and dropping; None where neither was asked for.
    """

    path: Path
    line: TextLine | None = None
    ms: float = 0.0
    error: str | None = None
    read: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return path, text, confidence, ms and, where it is not None, read; with an error path and error only."""
        if self.line is None:
            return {"path": str(self.path), "error": self.error}
        return {
            "path": str(self.path),
            "text": self.line.text,
            "confidence": round(self.line.confidence, 4),
            "ms": round(self.ms, 2),
            **({} if self.read is None else {"read": self.read}),
        }


def read_files(
    recognizer: Recognizer,
    paths: Sequence[Path],
    batch_size: int = 1,
    post: Sequence[str] = (),
    drop_score: float = 0.0,
) -> Iterator[FileReading]:
    """Read cropped lines from files.

    Args:
        recognizer: reads the lines.
        paths: of image files.
        batch_size: files that are read together.
        post: names of `CORRECTIONS`, which are applied to each text in this order.
        drop_score: texts of less confidence become "": blank paper, or writing that is illegible.

    Yields:
        A record for each file, in their order; one with an error for a file that cannot be read.
    """

    def read(images: list[np.ndarray]) -> list[TextLine]:
        return recognizer.read(images, batch_size)

    for path, line, ms, error in timed_batches(paths, batch_size, read):
        if line is None:
            yield FileReading(path, error=error)
            continue
        text = correct(line.text, post) if line.confidence >= drop_score else ""
        yield FileReading(path, replace(line, text=text), ms, read=line.text if post or drop_score else None)


def timed_batches(
    paths: Sequence[Path], batch_size: int, predict: Callable[[list[np.ndarray]], list[ResultT]]
) -> Iterator[tuple[Path, ResultT | None, float, str | None]]:
    """Load image files and predict on them, a batch after the other.

    Args:
        paths: of image files.
        batch_size: files that are loaded and predicted together.
        predict: images [h, w, 3] uint8 BGR -> a result for each.

    Yields:
        (path, result, the batch's milliseconds divided by its images, None) for each file, in their order; for one that
        cannot be read (path, None, 0.0, error message).
    """
    for start in range(0, len(paths), batch_size):
        loaded = load_all(paths[start : start + batch_size])
        images = [image for _, image, _ in loaded if image is not None]
        began = time.perf_counter()
        results = iter(predict(images))
        ms = 1000 * (time.perf_counter() - began) / max(1, len(images))
        for path, image, error in loaded:
            yield (path, None, 0.0, error) if image is None else (path, next(results), ms, None)
