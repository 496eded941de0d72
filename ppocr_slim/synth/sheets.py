"""A flat sheet of paper with lines of text whose boxes are known, before it is photographed.

A sheet is a paper and a list of marks in the order in which they came onto it. Text is a mark, too, so that it can be
left out: the difference between two pictures is then the ink of that line and nothing else. Coordinates are pixels: x
to the right, y down, the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.synth.handwriting import Writer, write

Colour = tuple[float, float, float]  # BGR, 0 to 255
MARGIN = 1.5  # pixels between the ink and its box: blur and rounding need them
VISIBLE = 40  # of 255: fainter rims of strokes are not seen
_SHIFT = 4  # fractional bits of a coordinate, for OpenCV


@dataclass(frozen=True)
class Mark:
    """Something on the paper: a mask [h, w] uint8, 255 where it is opaque, with its first pixel at (x, y)."""

    mask: np.ndarray
    x: int
    y: int
    colour: Colour

    def shifted(self, x: int, y: int) -> Mark:
        """Return the mark moved by (x, y) pixels."""
        return Mark(self.mask, self.x + x, self.y + y, self.colour)


@dataclass(frozen=True)
class Line:
    """A line of text: its box (quad [4, 2] float32, clockwise from the top left of the text) and its mark's index."""

    text: str
    quad: np.ndarray
    mark: int

    @property
    def bounds(self) -> np.ndarray:
        """The upright rectangle around the box: left, top, right, bottom."""
        return np.concatenate([self.quad.min(0), self.quad.max(0)])


class Sheet:
    """Paper [height, width] with marks and lines of text."""

    def __init__(self, paper: np.ndarray) -> None:
        """Begin with paper alone, [H, W, 3] uint8 BGR."""
        self.paper = paper
        self.height, self.width = paper.shape[:2]
        self.marks: list[Mark] = []
        self.lines: list[Line] = []
        self.covers: list[np.ndarray] = []  # outlines [M, 2] of things that lie on the sheet and hide what is below
        self._bounds = np.zeros((0, 4), np.float32)

    def add(self, mark: Mark) -> None:
        """Add a mark that is no text."""
        self.marks.append(mark)

    def add_line(self, mark: Mark, text: str, slope: float = 0.0) -> Line | None:
        """Add a line of text.

        Args:
            mark: its ink.
            text: its transcription.
            slope: of its baseline, pixels down a pixel to the right.

        Returns:
            The line; None, with nothing added, where it has no ink, leaves the sheet or meets other text.
        """
        quad = ink_quad(mark, slope)
        if quad is None or not self.is_free(np.concatenate([quad.min(0), quad.max(0)])):
            return None
        line = Line(text, quad, len(self.marks))
        self.marks.append(mark)
        self.lines.append(line)
        self._bounds = np.concatenate([self._bounds, line.bounds[None]])
        return line

    def is_free(self, bounds: np.ndarray, overlap: float = 0.16) -> bool:
        """Return whether a rectangle lies on the sheet and covers no line's box by more than `overlap` of the smaller.

        Handwritten lines under one another do reach into each other a little.
        """
        left, top, right, bottom = bounds
        if left < 1 or top < 1 or right > self.width - 2 or bottom > self.height - 2:
            return False
        if not len(self._bounds):
            return True
        size = np.minimum(self._bounds[:, 2:], bounds[2:]) - np.maximum(self._bounds[:, :2], bounds[:2])
        shared = np.prod(np.maximum(size, 0.0), axis=1)
        areas = np.prod(self._bounds[:, 2:] - self._bounds[:, :2], axis=1)
        return bool((shared <= overlap * np.minimum(areas, (right - left) * (bottom - top))).all())

    def render(self, without: int | None = None) -> np.ndarray:
        """Return the sheet as [H, W, 3] uint8 BGR; `without` is the index of a line to leave out."""
        picture = self.paper.copy()
        left_out = None if without is None else self.lines[without].mark
        for index, mark in enumerate(self.marks):
            if index != left_out:
                _blend(picture, mark)
        return picture


def _blend(picture: np.ndarray, mark: Mark) -> None:
    """Blend a mark into a picture [H, W, 3] uint8, in place; parts outside of it are cut off."""
    height, width = mark.mask.shape
    top, left = max(0, -mark.y), max(0, -mark.x)
    bottom, right = min(height, picture.shape[0] - mark.y), min(width, picture.shape[1] - mark.x)
    if top >= bottom or left >= right:
        return
    region = picture[mark.y + top : mark.y + bottom, mark.x + left : mark.x + right]
    alpha = mark.mask[top:bottom, left:right, None].astype(np.float32) * np.float32(1 / 255)
    below = region.astype(np.float32)
    region[:] = np.rint(below + alpha * (np.array(mark.colour, np.float32) - below))


def ink_quad(mark: Mark, slope: float = 0.0) -> np.ndarray | None:
    """Return the tight box of a mark's ink along a baseline of that slope, [4, 2] float32; None without ink."""
    found = cv2.findNonZero((mark.mask > VISIBLE).astype(np.uint8))
    if found is None:
        return None
    along = np.array([1.0, slope]) / np.hypot(1.0, slope)
    across = np.array([-along[1], along[0]])
    points = found[:, 0, :] + np.array([mark.x, mark.y])
    u, v = points @ along, points @ across
    reach = 0.5 + MARGIN  # a pixel reaches half a pixel beyond its centre
    left, right, top, bottom = u.min() - reach, u.max() + reach, v.min() - reach, v.max() + reach
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return (corners @ np.stack([along, across])).astype(np.float32)


def stroke_mark(strokes: Sequence[np.ndarray], pen: float, colour: Colour, strength: float = 1.0) -> Mark:
    """Return the mark of polylines drawn with a pen.

    Args:
        strokes: points [points, 2] of the sheet, an array a stroke.
        pen: width in pixels; less than one gives a fainter line.
        colour: of the ink.
        strength: opacity, 0 to 1.
    """
    every = np.concatenate(strokes)
    reach = int(np.ceil(pen)) + 2
    x, y = (np.floor(every.min(0)) - reach).astype(int)
    width, height = (np.ceil(every.max(0)) - (x, y) + reach + 1).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = [np.round((stroke - (x, y)) * (1 << _SHIFT)).astype(np.int32) for stroke in strokes]
    level = round(255 * strength * min(1.0, max(pen, 0.3)))
    cv2.polylines(mask, fixed, False, level, max(1, round(pen)), cv2.LINE_AA, _SHIFT)
    return Mark(mask, int(x), int(y), colour)


def filled_mark(outline: np.ndarray, colour: Colour, strength: float = 1.0) -> Mark:
    """Return the mark of a filled outline [points, 2] of that opacity (`strength`, 0 to 1)."""
    x, y = np.floor(outline.min(0)).astype(int) - 1
    width, height = (np.ceil(outline.max(0)) - (x, y) + 2).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = np.round((outline - (x, y)) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], round(255 * strength), cv2.LINE_AA, _SHIFT)
    return Mark(mask, int(x), int(y), colour)


def handwritten_mark(
    text: str, writer: Writer, rng: np.random.Generator, x: float, baseline: float, room: float, slope: float = 0.0
) -> Mark:
    """Return the mark of a line in the writer's hand, from x on, no wider than about `room` pixels."""
    ink = write(text, writer, rng, room).moved(0.0, 0.0, slope)
    if not len(ink.points):
        return Mark(np.zeros((1, 1), np.uint8), int(x), int(baseline), writer.ink)
    reach = float(ink.pens.max()) + 2.0
    left, top = np.floor(ink.points.min(0) - reach + (x, baseline)).astype(int)
    right, bottom = np.ceil(ink.points.max(0) + reach + (x, baseline)).astype(int)
    mask = ink.moved(x - left, baseline - top).render(int(bottom - top), int(right - left))
    pressure = np.clip(1.0 - np.abs(rng.normal(0.0, 0.09, max(4, mask.shape[1] // 24))), 0.6, 1.0)
    mask *= cv2.resize(pressure[None].astype(np.float32), (mask.shape[1], 1))
    return Mark(np.rint(mask * 255).astype(np.uint8), int(left), int(top), writer.ink)
