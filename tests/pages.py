"""Quadrilaterals of text on pages, for the tests of detection."""

from __future__ import annotations

import math

import numpy as np


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> np.ndarray:
    """Return corners [4, 2] float32 clockwise from the top left, rotated clockwise around the centre."""
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return (turned(corners, degrees) + [x + width / 2, y + height / 2]).astype(np.float32)


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Return points [P, 2] rotated clockwise, as one sees it, around (0, 0)."""
    angle = math.radians(degrees)
    return points @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def page_of_lines(
    lines: int, size: int, degrees: float = 0.0, height: float = 0.7, columns: int = 2
) -> list[np.ndarray]:
    """Return a page's lines in reading order, evenly spaced in a square of `size` pixels, the page rotated as a whole.

    `height` is that of a line as a fraction of the distance from line to line.
    """
    rows = math.ceil(lines / columns)
    pitch, room = 0.8 * size / rows, 0.8 * size / columns
    found = []
    for number in range(lines):
        row, column = divmod(number, columns)
        width = room * (0.6 + 0.3 * math.sin(7 * number) ** 2)
        line = rectangle(0.1 * size + column * room, 0.1 * size + row * pitch, width, height * pitch)
        found.append((turned(line - size / 2, degrees) + size / 2).astype(np.float32))
    return found


def iou_of_quads(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two convex polygons, by clipping one by each side of the other (Sutherland and Hodgman)."""
    part = [np.asarray(p, float) for p in a]
    for start, end in zip(np.asarray(b, float), np.roll(np.asarray(b, float), -1, axis=0)):
        side = [(end - start)[0] * (p - start)[1] - (end - start)[1] * (p - start)[0] for p in part]
        cut = []
        for i, point in enumerate(part):
            if side[i - 1] * side[i] < 0:
                cut.append(part[i - 1] + (point - part[i - 1]) * side[i - 1] / (side[i - 1] - side[i]))
            if side[i] >= 0:
                cut.append(point)
        part = cut
        if not part:
            return 0.0
    common = shoelace(np.array(part))
    return common / (shoelace(a) + shoelace(b) - common)


def shoelace(points: np.ndarray) -> float:
    """Return the area of a polygon [P, 2]."""
    x, y = np.asarray(points, float).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
