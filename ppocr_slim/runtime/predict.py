"""Reading image files with a recognizer, one record a file, whatever is wrong with some of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

from ppocr_slim.runtime.correct import post_process
from ppocr_slim.runtime.images import load_all
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.types import TextLine


@dataclass(frozen=True)
class FileReading:
    """What was read from a file, or why nothing could be.

    Attributes:
        line: None where there is an error.
        read: the text before post-processing; None where none was asked for.
        ms: milliseconds from pixels to text; in a batch, its time divided by its rows.
        error: None where there is a line.
    """

    path: Path
    line: Optional[TextLine] = None
    ms: float = 0.0
    error: Optional[str] = None
    read: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        """path, text, confidence, ms, after post-processing also read; or path, error."""
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
    recognizer: Recognizer, paths: Sequence[Path], batch_size: int = 1, post: Sequence[str] = ()
) -> Iterator[FileReading]:
    """Read cropped rows from `paths`, in their order; a broken file gives a record with its error.

    `post` names corrections of `POST_PROCESSING`, which are applied to each text in this order.
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
            corrected = replace(line, text=post_process(line.text, post)) if post else line
            yield FileReading(path, corrected, ms, read=line.text if post else None)
