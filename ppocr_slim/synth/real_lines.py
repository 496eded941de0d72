"""Real handwriting for synthetic pages: the ink of photographed text lines, cut out of its paper."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.sheets import VISIBLE, Colour, Mark


@dataclass(frozen=True)
class RealLine:
    """A photographed text line of the user's: its file and its transcription."""

    path: Path
    text: str


def read_real_lines(label_files: Sequence[Path]) -> list[RealLine]:
    """Read label files of text lines, each entry `path<TAB>text` with the path from the file's own folder.

    Returns:
        The lines that have a text.

    Raises:
        SlimError: a file cannot be read or has no such line.
    """
    real_lines: list[RealLine] = []
    for label_file in label_files:
        try:
            entries = label_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SlimError(f"{label_file}: cannot be read ({error}); give a label file of lines in UTF-8") from error
        pairs = [entry.partition("\t") for entry in entries]
        found = [
            RealLine(label_file.parent / path, unicodedata.normalize("NFC", text).strip())
            for path, _, text in pairs
            if path and text.strip()
        ]
        if not found:
            raise SlimError(f"{label_file}: has no line with a text; it needs lines 'path<TAB>text'")
        real_lines += found
    return real_lines


def real_line_mark(line: RealLine, x: float, baseline: float, x_height: float, room: float) -> Mark | None:
    """Return the ink of a real line as a mark.

    The line is taken to be cropped from a form: its ink is about three x-heights high, and rules run along its edges.

    Args:
        line: the photographed line.
        x: pixel of the sheet at which the ink begins.
        baseline: pixel of the sheet on which the text stands.
        x_height: of the text on the sheet, in pixels.
        room: greatest width in pixels.

    Returns:
        The mark; None where it would have to shrink by more than a third to have room.

    Raises:
        SlimError: the picture cannot be read.
    """
    mask, colour = _read_ink(line.path)
    points = cv2.findNonZero((mask > VISIBLE).astype(np.uint8))
    if points is None:
        return None
    left, top, width, height = cv2.boundingRect(points)
    scale = 3.2 * x_height / height
    if width * scale > 1.5 * room:
        return None
    scale = min(scale, room / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    ink = mask[top : top + height, left : left + width]
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ink = cv2.convertScaleAbs(ink, alpha=1.0 + 0.5 * max(0.0, 1.0 - scale))  # thin strokes fade as they shrink
    return Mark(ink, round(x), round(baseline - 0.72 * size[1]), colour)


@lru_cache(maxsize=4000)  # of about 50 KB each: a page shows several of them
def _read_ink(path: Path) -> tuple[np.ndarray, Colour]:
    picture = cv2.imread(str(path))
    if picture is None:
        raise SlimError(f"{path}: is not a picture that can be read; mend the label file of --lines")
    scale = min(1.0, 64 / picture.shape[0])
    return extract_ink(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def extract_ink(picture: np.ndarray) -> tuple[np.ndarray, Colour]:
    """Return the ink of a photographed text line, without its rules and without what neighbouring lines reach into it.

    Args:
        picture: the line, [H, W, 3] uint8 BGR.

    Returns:
        The ink, [H, W] uint8 with 255 for the darkest, and its colour.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    height = len(grey)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (height // 4 * 2 + 1, height // 4 * 2 + 1))
    paper = cv2.GaussianBlur(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel), (0, 0), height / 6)
    darkness = np.clip(1.0 - grey / np.maximum(paper, 1.0).astype(np.float32), 0.0, 1.0)
    darkest = max(0.15, float(np.percentile(darkness, 98)))
    ink = (darkness > 0.35 * darkest).astype(np.uint8)
    rules = _find_rules(ink)
    kept = _keep_writing(ink & (1 - rules)) & (1 - rules)
    mask = np.rint(255 * np.clip(darkness / darkest, 0.0, 1.0) * kept).astype(np.uint8)
    strong = picture[mask > 160]
    colour = np.median(strong, axis=0) if len(strong) else np.array([60.0, 50.0, 50.0])
    return mask, tuple(float(value) for value in colour)


def _find_rules(ink: np.ndarray) -> np.ndarray:
    """Return the printed rules and what lies beyond them, [H, W] uint8 0 or 1, in a mask of all ink."""
    height, width = ink.shape
    across = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, 2 * height), np.uint8))
    rules = cv2.dilate(across, np.ones((5, 1), np.uint8))
    # a vertical rule leans a little, and in its band every row of pixels has ink, as in no character's
    upright = cv2.dilate(ink, np.ones((1, 9), np.uint8)).mean(0) > 0.93
    at_right = np.flatnonzero(upright[int(0.8 * width) :])
    if len(at_right):  # beyond it lies no text
        rules[:, int(0.8 * width) + at_right[0] :] = 1
    at_left = np.flatnonzero(upright[: int(0.04 * width)])
    if len(at_left):
        rules[:, : at_left[-1] + 1] = 1
    return rules


def _keep_writing(ink: np.ndarray) -> np.ndarray:
    """Return the writing's ink and a pixel around it, [H, W] uint8 0 or 1: no specks, nothing of neighbouring lines."""
    height = len(ink)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    top, bottom = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
    foreign = ((top <= 2) & (bottom < 0.3 * height)) | ((bottom >= height - 2) & (top > 0.75 * height))
    keep = ~foreign & (stats[:, cv2.CC_STAT_AREA] >= 4)
    keep[0] = False
    keep &= ~_remains_of_rules(stats, keep, height)
    return cv2.dilate(keep[pieces].astype(np.uint8), np.ones((3, 3), np.uint8))


def _remains_of_rules(stats: np.ndarray, keep: np.ndarray, height: int) -> np.ndarray:
    """Return which pieces of ink [n] are remains of a rule: flat, and away from the writing at its left or right."""
    left, right = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH]
    flat = stats[:, cv2.CC_STAT_HEIGHT] < 0.15 * height
    writing = keep & ~flat
    if not writing.any():
        return np.zeros_like(keep)
    away = height // 2
    return flat & ((left > right[writing].max() + away) | (right < left[writing].min() - away))
