"""Prediction of image files with a recognizer: one record a file, whatever is wrong with some of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppocr_slim.runtime.images import load_all
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.text.corrections import correct


@dataclass(frozen=True)
class FileReading:
    """What was read from a file, or why nothing could be.

    Attributes:
        line: None where there is an error.
        read: the text before post-processing and dropping; None where none was asked for.
        ms: milliseconds from pixels to text; in a batch, its time divided by its lines.
        error: None where there is a line.
    """

    path: Path
    line: TextLine | None = None
    ms: float = 0.0
    error: str | None = None
    read: str | None = None

    def to_json(self) -> dict[str, Any]:
        """path, text, confidence, ms, after post-processing or with a drop_score also read; or path, error."""
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
    """Read cropped lines from `paths`, in their order; a broken file gives a record with its error.

    Args:
        post: names of corrections of `CORRECTIONS`, which are applied to each text in this order.
        drop_score: a text of less confidence gives "": nobody wrote there, or nobody can read it.
    """
    for start in range(0, len(paths), batch_size):
        loaded = load_all(paths[start : start + batch_size])
        images = [image for _, image, _ in loaded if image is not None]
        began = time.perf_counter()
        lines = iter(recognizer.read(images, batch_size))
        ms = 1000 * (time.perf_counter() - began) / max(1, len(images))
        for path, image, error in loaded:
            if image is None:
                yield FileReading(path, error=error)
                continue
            line = next(lines)
            text = correct(line.text, post) if line.confidence >= drop_score else ""
            yield FileReading(path, replace(line, text=text), ms, read=line.text if post or drop_score else None)
