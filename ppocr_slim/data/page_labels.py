"""PaddleOCR's detection label files: `path<TAB>[{"transcription": ..., "points": [[x, y], ...]}, ...]` per line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.data.labels import Finding, Sample, read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons

IGNORED = ("###", "*")  # transcriptions of text that counts neither for nor against a detector


@dataclass(frozen=True, eq=False)
class PageSample:
    """A labelled page; a page without text has no lines.

    Attributes:
        path: the image.
        outlines: polygon [P, 2] float32 of each line, pixels.
        texts: transcription of each line.
        where: "train.txt:12", for messages.
    """

    path: Path
    outlines: tuple[np.ndarray, ...]
    texts: tuple[str, ...]
    where: str

    @property
    def ignored(self) -> tuple[bool, ...]:
        """Flags of the lines that are to be ignored."""
        return tuple(text in IGNORED for text in self.texts)

    @property
    def text(self) -> str:
        """The transcriptions of all lines, one per line."""
        return "\n".join(self.texts)

    @property
    def group(self) -> str:
        """The name of the image's folder."""
        return self.path.parent.name


def read_page_file(path: str | Path, image_root: str | Path | None = None) -> tuple[list[PageSample], list[Finding]]:
    """Read a detection label file into samples and findings; every line ends up in exactly one of the two.

    Args:
        image_root: see `read_label_file`.

    Returns:
        The pages and the findings.

    Raises:
        SlimError: the file cannot be read, is not UTF-8 or has no line.
    """
    lines, findings = read_label_file(path, image_root)
    pages = []
    for line in lines:
        try:
            pages.append(_page(line))
        except SlimError as error:
            findings.append(Finding("unusable boxes", line.where, str(error)))
    return pages, findings


def read_samples(task: str, path: str | Path, image_root: str | Path | None = None) -> tuple[list[Any], list[Finding]]:
    """Read a label file of a task: pages for "det", text lines for "cls" and "rec".

    Returns:
        The samples and the findings.
    """
    return (read_page_file if task == "det" else read_label_file)(path, image_root)


def _page(line: Sample) -> PageSample:
    try:
        entries = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise SlimError(f"the label of {line.path} is not JSON ({error})") from error
    if not isinstance(entries, list):
        raise SlimError(f"the label of {line.path} is not a JSON list of boxes")
    outlines, texts = [], []
    for number, entry in enumerate(entries):
        text, points = _entry(entry, f"box {number} of {line.path}")
        outlines.append(points)
        texts.append(text)
    return PageSample(line.path, tuple(outlines), tuple(texts), line.where)


def _entry(entry: Any, what: str) -> tuple[str, np.ndarray]:
    if not isinstance(entry, dict) or not isinstance(entry.get("transcription"), str) or "points" not in entry:
        raise SlimError(f'{what} is not {{"transcription": text, "points": [[x, y], ...]}}')
    try:
        points = np.asarray(entry["points"], np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise SlimError(f"{what} has points that are not numbers") from error
    return entry["transcription"], polygons.checked(points, what)
