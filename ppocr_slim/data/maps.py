"""Target maps of DB (Liao et al. 2020, arXiv:1911.08947, section 3.4).

Pixel (x, y) is the point (x, y) of the labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.boxes import SHRINK_RATIO, shrink_distance

MIN_SIDE = 4  # pixels; smaller text is illegible. A single 1 is no wider than this
LOW, HIGH = 0.3, 0.7  # the threshold map far from borders and on them


@dataclass(frozen=True, eq=False)
class Maps:
    """The targets of a page, each [H, W] float32.

    Attributes:
        shrink: 1 within the shrunk polygons, 0 elsewhere.
        shrink_mask: 0 in ignored, invalid and very small polygons, where the target is not known.
        threshold: 0.7 on the polygons' borders, falling to 0.3 at the distance D from them.
        threshold_mask: 1 within the polygons grown by D.
    """

    shrink: np.ndarray
    shrink_mask: np.ndarray
    threshold: np.ndarray
    threshold_mask: np.ndarray


def db_maps(
    outlines: Sequence[np.ndarray],
    ignored: Sequence[bool],
    size: tuple[int, int],
    ratio: float = SHRINK_RATIO,
    min_side: float = MIN_SIDE,
) -> Maps:
    """Return the targets of a page.

    A polygon whose border crosses itself, or whose short side is less than `min_side` pixels, is treated as ignored:
    masked, and not in the threshold map.

    Args:
        outlines: polygons [P_i, 2] in pixels, which may extend beyond the page.
        ignored: flag of each polygon.
        size: (H, W) of the page.
        ratio: shrink ratio.
        min_side: pixels.

    Raises:
        SlimError: a polygon has fewer than three corners or one that is not finite, or the number of flags differs.
    """
    if len(outlines) != len(ignored):
        raise SlimError(f"{len(outlines)} polygons and {len(ignored)} flags: each polygon needs one")
    maps = Maps(
        shrink=np.zeros(size, np.float32),
        shrink_mask=np.ones(size, np.float32),
        threshold=np.zeros(size, np.float32),
        threshold_mask=np.zeros(size, np.float32),
    )
    for number, (outline, ignore) in enumerate(zip(outlines, ignored)):
        points = polygons.checked(outline, f"polygon {number} of the page")
        sound = not ignore and polygons.short_side(points) >= min_side and polygons.is_simple(points)
        distance = shrink_distance(points, ratio) if sound else 0.0
        core = _core(points, distance) if sound else None
        if core is None:
            # The hull of an invalid polygon covers all that it may mean.
            _fill(maps.shrink_mask, points if polygons.is_simple(points) else polygons.hull(points), 0)
            continue
        _fill(maps.shrink, core, 1)
        _draw_border(maps, points, distance)
    threshold = maps.threshold
    threshold *= HIGH - LOW
    threshold += LOW
    return maps


def _core(points: np.ndarray, distance: float) -> np.ndarray | None:
    """Return the shrunk polygon, shrunk less where it would fall into pieces: one text is one region."""
    for factor in (1, 0.5, 0.25):
        parts = polygons.offset(points, -distance * factor)
        if len(parts) == 1:
            return parts[0]
    return None


def _fill(plane: np.ndarray, points: np.ndarray, value: float) -> None:
    """Set the pixels of `plane` inside the polygon [P, 2] to `value`."""
    height, width = plane.shape
    if points.min() >= 0 and (points.max(axis=0) <= [width - 1, height - 1]).all():
        cv2.fillPoly(plane, [polygons.to_grid(points)], value, shift=polygons.SHIFT)
        return
    # OpenCV bends sides that cross the image border by up to three pixels: draw such a polygon on a larger plane.
    frame = np.array([[-2, -2], [width + 1, -2], [width + 1, height + 1], [-2, height + 1]], np.float32)
    for part in polygons.intersection(points, frame):
        corner = np.floor(part.min(axis=0))
        columns, rows = (np.ceil(part.max(axis=0)) - corner).astype(int) + 1
        inside = np.zeros((rows, columns), np.uint8)
        cv2.fillPoly(inside, [polygons.to_grid(part - corner)], 1, shift=polygons.SHIFT)
        left, top = corner.astype(int).tolist()
        inside = inside[max(-top, 0) : height - top, max(-left, 0) : width - left]
        top, left = max(top, 0), max(left, 0)
        plane[top : top + inside.shape[0], left : left + inside.shape[1]][inside > 0] = value


def _draw_border(maps: Maps, points: np.ndarray, reach: float) -> None:
    """Raise the threshold map to 1 - distance / reach around the polygon's border, and set its mask."""
    _fill(maps.threshold_mask, max(polygons.offset(points, reach), key=cv2.contourArea), 1)
    corners = points.tolist()
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
        # The bounding box of a long diagonal side is nearly empty: draw it in pieces.
        pieces = max(1, math.ceil(min(abs(bx - ax), abs(by - ay)) / (4 * reach)))
        dx, dy = (bx - ax) / pieces, (by - ay) / pieces
        for i in range(pieces):
            _draw_side(maps.threshold, (ax + i * dx, ay + i * dy), (dx, dy), reach)


def _draw_side(plane: np.ndarray, start: tuple[float, float], side: tuple[float, float], reach: float) -> None:
    """Raise the plane [H, W] to 1 - distance / reach from a straight line, in its neighbourhood only."""
    (x, y), (dx, dy) = start, side
    left, right = max(math.ceil(min(x, x + dx) - reach), 0), math.floor(max(x, x + dx) + reach) + 1
    top, bottom = max(math.ceil(min(y, y + dy) - reach), 0), math.floor(max(y, y + dy) + reach) + 1
    length = math.hypot(dx, dy)
    part = plane[top : max(bottom, 0), left : max(right, 0)]
    if not length or not part.size:
        return
    ux, uy = dx / length, dy / length
    columns = np.arange(left, left + part.shape[1], dtype=np.float32)
    rows = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None]
    columns -= x + dx / 2
    rows -= y + dy / 2
    # In coordinates centred on the line and rotated to it: the distance beyond its ends, and the distance from it.
    beyond = np.add(columns * ux, rows * uy)
    np.abs(beyond, out=beyond)
    beyond -= length / 2
    np.maximum(beyond, 0, out=beyond)
    # Not by cv2.magnitude: a batch must be the same to the bit whenever it is made, on any number of threads.
    off = np.subtract(columns * uy, rows * ux)
    off *= off
    beyond *= beyond
    beyond += off
    closeness = np.sqrt(beyond, out=beyond)
    closeness *= -1 / reach
    closeness += 1
    np.maximum(part, closeness, out=part)  # what is farther than `reach` is below 0, and the plane is not
