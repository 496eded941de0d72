"""Polygons [P, 2] float in pixels (x, y): sizes, offsets, overlaps. The only module that imports pyclipper.

Clipper computes on integers: a pixel is divided into `GRID` parts.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import pyclipper

from ppocr_slim.errors import SlimError

SHIFT = 4  # bits, as OpenCV's drawing functions count them
GRID = 1 << SHIFT
FARTHEST = 1e6  # pixels; beyond it OpenCV's 32-bit coordinates overflow


def checked(points: np.ndarray, what: str) -> np.ndarray:
    """Return the corners of a polygon as [P, 2] float32.

    Args:
        points: corners (x, y) in pixels.
        what: the polygon's name, for the message.

    Raises:
        SlimError: there are fewer than three corners, or one is not finite or over a million pixels away.
    """
    array = np.asarray(points, np.float32)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 3:
        raise SlimError(f"{what} has the shape {array.shape}: it needs three corners (x, y) or more")
    if not (np.abs(array) < FARTHEST).all():
        raise SlimError(f"{what} has a corner that is not finite or over a million pixels away: {array.tolist()}")
    return array


def to_grid(points: np.ndarray) -> np.ndarray:
    """Return [P, 2] pixels as int32 in parts of a pixel, which `cv2.fillPoly(..., shift=SHIFT)` takes, too."""
    return np.rint(np.asarray(points, np.float64) * GRID).astype(np.int32)


def area(points: np.ndarray) -> float:
    """Return the area in squared pixels."""
    return abs(cv2.contourArea(points))


def perimeter(points: np.ndarray) -> float:
    """Return the perimeter in pixels."""
    return cv2.arcLength(points, True)


def hull(points: np.ndarray) -> np.ndarray:
    """Return the convex hull of the points; points that are all the same are returned as they are."""
    found = cv2.convexHull(points)
    return points if found is None else found[:, 0]


def short_side(points: np.ndarray) -> float:
    """Return the shorter side in pixels of the smallest rectangle around the points, rotated or not."""
    return min(cv2.minAreaRect(points)[1])


def is_simple(points: np.ndarray) -> bool:
    """Return whether the polygon covers a pixel and its border does not cross itself (as with two corners swapped)."""
    parts = pyclipper.SimplifyPolygon(to_grid(points).tolist(), pyclipper.PFT_EVENODD)
    if len(parts) != 1 or area(points) < 1:
        return False
    # The border of what it covers is its own: no part was turned over, no spike without width dropped.
    clean = np.array(parts[0], np.float32) / GRID
    return math.isclose(area(clean), area(points), rel_tol=0.01, abs_tol=1) and math.isclose(
        perimeter(clean), perimeter(points), rel_tol=0.01, abs_tol=1
    )


def offset(points: np.ndarray, distance: float) -> list[np.ndarray]:
    """Grow a polygon by `distance` pixels on all sides, with round corners, or shrink it where that is negative.

    Returns:
        Polygons [P_i, 2] float32: one that is shrunk may fall apart or vanish.
    """
    clipper = pyclipper.PyclipperOffset(arc_tolerance=GRID / 4)
    clipper.AddPath(to_grid(points).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.array(part, np.float32) / GRID for part in clipper.Execute(distance * GRID)]


def intersection(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Return the intersection of two simple polygons: [P_i, 2] float32 each."""
    clipper = pyclipper.Pyclipper()
    try:
        clipper.AddPath(to_grid(a).tolist(), pyclipper.PT_SUBJECT, True)
        clipper.AddPath(to_grid(b).tolist(), pyclipper.PT_CLIP, True)
    except pyclipper.ClipperException:
        return []  # one of them has no area
    parts = clipper.Execute(pyclipper.CT_INTERSECTION, pyclipper.PFT_NONZERO, pyclipper.PFT_NONZERO)
    return [np.array(part, np.float32) / GRID for part in parts]


def intersection_area(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area of the intersection of two simple polygons in squared pixels."""
    return sum(area(part) for part in intersection(a, b))


def clockwise(quad: np.ndarray) -> np.ndarray:
    """Return the corners [4, 2] of a convex quadrilateral clockwise from the top left.

    The top side is the one that points most to the right.
    """
    if cv2.contourArea(quad, oriented=True) < 0:  # y runs downwards: positive is clockwise to the eye
        quad = quad[::-1]
    sides = np.roll(quad, -1, axis=0) - quad
    return np.roll(quad, -int(np.argmax(sides[:, 0] / np.maximum(np.hypot(*sides.T), 1e-6))), axis=0)


def around(points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Return the corners [4, 2] of the smallest rectangle around the points, in the order of `clockwise`.

    Args:
        points: [P, 2].
        margin: pixels by which the rectangle is grown on each side.
    """
    centre, (width, height), angle = cv2.minAreaRect(points)
    return clockwise(cv2.boxPoints((centre, (width + 2 * margin, height + 2 * margin), angle)))
