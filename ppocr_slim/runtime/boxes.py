"""Post-processing of DB: from a probability map to boxes in reading order, and from a box to the crop of its line.

DB: Liao et al. 2020, arXiv:1911.08947.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons

SHRINK_RATIO = 0.4  # r of the paper
SAME_LINE = 0.5  # fraction of the lower box's height that two boxes of one line have in common
LEVEL = 30  # degrees; steeper boxes say nothing about the slope of the page
UPRIGHT = 1.5  # crops that are so many times as high as wide are turned, as PaddleOCR 2.x does


@dataclass(frozen=True)
class BoxSettings:
    """Settings of the post-processing; names and default values are PaddleOCR's.

    Attributes:
        threshold: a pixel above it is text.
        box_threshold: a box whose mean probability is lower is dropped.
        unclip_ratio: regions grow by area * ratio / perimeter (the paper, with 1.5). With a shrink ratio of 0.4 that
            undoes the shrinking for squares only: of a line ten times as long as high it restores 58% of the height, of
            longer ones less than half. None undoes it exactly, whatever the region's form (`shrunk_by`).
        shrink_ratio: r of the paper, by which the regions that the network learned are shrunk.
        min_size: pixels of the map; a region whose short side has fewer is noise.
        max_candidates: of more regions only the largest are kept.
        polygons: return outlines of any number of corners, for bent text, instead of quadrilaterals.
    """

    threshold: float = 0.3
    box_threshold: float = 0.6
    unclip_ratio: float | None = 1.5
    shrink_ratio: float = SHRINK_RATIO
    min_size: int = 3
    max_candidates: int = 1000
    polygons: bool = False

    def __post_init__(self):
        if not (0 < self.threshold < 1 and 0 <= self.box_threshold <= 1):
            raise SlimError(f"threshold {self.threshold} and box_threshold {self.box_threshold} must be within 0 to 1")
        if self.unclip_ratio is not None and not 0 <= self.unclip_ratio < math.inf:
            raise SlimError(f"unclip_ratio is {self.unclip_ratio}: it must be 0 or more, or null to undo the shrinking")
        if not 0 < self.shrink_ratio < 1:
            raise SlimError(f"shrink_ratio is {self.shrink_ratio}: it must be within 0 to 1")
        if self.min_size < 1 or self.max_candidates < 1:
            raise SlimError(f"min_size {self.min_size} and max_candidates {self.max_candidates} must be at least 1")


@dataclass(frozen=True, eq=False)
class Box:
    """A region of text.

    Attributes:
        points: corners [P, 2] float32 in pixels (x, y), clockwise; a quadrilateral's from the top left.
        score: mean probability of the region's pixels, 0 to 1.
    """

    points: np.ndarray
    score: float = 1.0


def shrink_distance(points: np.ndarray, ratio: float = SHRINK_RATIO) -> float:
    """Return D = area (1 - ratio^2) / perimeter in pixels, by which the paper shrinks a polygon [P, 2]."""
    return polygons.area(points) * (1 - ratio**2) / max(polygons.perimeter(points), 1e-6)


def shrunk_by(area: float, perimeter: float, ratio: float = SHRINK_RATIO) -> float:
    """Return the D in pixels by which a polygon was shrunk to this area and perimeter: `shrink_distance` inverted.

    A rectangle of area A and perimeter L, grown by D, has A + L D + 4 D^2 and L + 8 D; into D = k area / perimeter
    this gives (8 - 4k) D^2 + (1 - k) L D - k A = 0. Other forms are treated as if they had four right angles.
    """
    k = 1 - ratio**2
    a, b = 8 - 4 * k, (1 - k) * perimeter
    return (math.sqrt(b**2 + 4 * a * k * area) - b) / (2 * a)


def find_boxes(
    probability: np.ndarray, size: tuple[int, int] | None = None, settings: BoxSettings | None = None
) -> list[Box]:
    """Find the text boxes of a probability map.

    Args:
        probability: [H, W] float32.
        size: (height, width) of the image, which is the map scaled, each side by itself; by default that of the map.
        settings: by default PaddleOCR's.

    Returns:
        Boxes in pixels of the image, cut at its rim, in no particular order.

    Raises:
        SlimError: the map has not two dimensions or no pixel, or the size has no pixel.
    """
    settings = settings or BoxSettings()
    if probability.ndim != 2 or probability.size == 0:
        raise SlimError(f"a probability map has the shape [H, W], not {list(probability.shape)}")
    height, width = size if size is not None else probability.shape
    if height < 1 or width < 1:
        raise SlimError(f"an image of {width} x {height} pixels cannot have boxes: it needs 1 x 1 or more")
    probability = np.ascontiguousarray(probability, np.float32)
    scale = np.array([width / probability.shape[1], height / probability.shape[0]], np.float32)
    rim = np.array([width - 1, height - 1], np.float32)
    boxes: list[Box] = []
    for region in _regions(probability, settings):
        score = _mean_within(probability, region)
        if score < settings.box_threshold:
            continue
        outline = _unshrink(region, settings)
        if outline is None:
            continue
        points = np.clip(outline * scale, 0, rim)
        if polygons.short_side(points) >= 1:  # else nothing of it is left within the image
            boxes.append(Box(points, score))
    return boxes


def _regions(probability: np.ndarray, settings: BoxSettings) -> list[np.ndarray]:
    """Return the outlines [P, 1, 2] int32 of the connected regions of text, without those of holes in them."""
    text = (probability > settings.threshold).astype(np.uint8)
    contours, hierarchy = cv2.findContours(text, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    outer = [contour for contour, (_, _, _, parent) in zip(contours, hierarchy[0]) if parent < 0]
    # An outline runs through the centres of pixels: a region is a pixel wider than it.
    wide = [contour for contour in outer if polygons.short_side(contour) + 1 >= settings.min_size]
    if len(wide) > settings.max_candidates:
        wide.sort(key=cv2.contourArea, reverse=True)
    return wide[: settings.max_candidates]


def _mean_within(probability: np.ndarray, region: np.ndarray) -> float:
    """Return the mean of the map [H, W] within an outline; only its bounding box is read."""
    x, y, width, height = cv2.boundingRect(region)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [region], 1, offset=(-x, -y))
    return cv2.mean(probability[y : y + height, x : x + width], inside)[0]


def _unshrink(region: np.ndarray, settings: BoxSettings) -> np.ndarray | None:
    """Return a region's rectangle or polygon [P, 2] float32, grown to the size of the text; None if it has no area."""
    if settings.polygons:
        outline = cv2.approxPolyDP(region, 0.002 * cv2.arcLength(region, True), True)[:, 0].astype(np.float32)
    else:
        outline = polygons.around(region)
    area, perimeter = polygons.area(outline), polygons.perimeter(outline)
    if not area:
        return None
    if settings.unclip_ratio is None:
        # A slanting region has jagged edges, and the rectangle around it is a pixel higher: much for a region that is a
        # fifth of a line high. The region's own area tells its mean height.
        by = shrunk_by(polygons.area(region), perimeter, settings.shrink_ratio)
    else:
        by = area * settings.unclip_ratio / perimeter
    if not settings.polygons:
        return polygons.around(region, by)  # as Clipper would, once the corners that it rounds are squared
    parts = polygons.offset(outline, by)
    if not parts:
        return None
    largest = max(parts, key=cv2.contourArea)
    largest = cv2.approxPolyDP(largest, 0.5, True)[:, 0]  # half a pixel; round corners have many points
    return largest if cv2.contourArea(largest, oriented=True) > 0 else largest[::-1]


def reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Return the boxes in reading order: lines from top to bottom, each from left to right.

    The page is turned level first, by the median slope of its boxes. A box then belongs to a line if it shares at
    least half of the lower one's height with the box of that line that is nearest to it from side to side, so that
    lines may bend. Boxes that stand upright say nothing about the slope.
    """
    if not boxes:
        return []
    left, top, right, bottom = _level_bounds(boxes)
    middle, height = (top + bottom) / 2, bottom - top
    lines: list[list[int]] = []
    for box in np.lexsort((left, middle)).tolist():
        best, most = None, SAME_LINE
        for line in lines:
            gaps = [max(left[box] - right[other], left[other] - right[box]) for other in line]
            near = line[int(np.argmin(gaps))]
            common = min(bottom[box], bottom[near]) - max(top[box], top[near])
            overlap = common / max(min(height[box], height[near]), 1e-6)
            if overlap >= most:
                best, most = line, overlap
        if best is None:
            lines.append([box])
        else:
            best.append(box)
    lines.sort(key=lambda line: float(np.mean(middle[line])))
    return [boxes[box] for line in lines for box in sorted(line, key=lambda box: (left[box], middle[box]))]


def _level_bounds(boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes' bounds on the page turned level: left, top, right and bottom, [N] each."""
    angle = math.radians(_slope([box.points for box in boxes]))
    level = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = [box.points @ level for box in boxes]
    left, top = np.array([points.min(axis=0) for points in turned]).T
    right, bottom = np.array([points.max(axis=0) for points in turned]).T
    return left, top, right, bottom


def _slope(outlines: Sequence[np.ndarray]) -> float:
    """Return the degrees by which the page's lines fall to the right: the median over boxes, weighted by length."""
    slopes, weights = [], []
    for points in outlines:
        quad = polygons.around(np.asarray(points, np.float32))
        sides = quad[1] - quad[0], quad[2] - quad[1]
        lengths = [float(np.hypot(*side)) for side in sides]
        if lengths[0] > 2 * lengths[1]:
            slope = math.degrees(math.atan2(sides[0][1], sides[0][0]))
            if abs(slope) <= LEVEL:
                slopes.append(slope)
                weights.append(lengths[0])
    if not slopes:
        return 0.0
    order = np.argsort(slopes)
    upto = np.cumsum(np.array(weights)[order])
    return slopes[order[int(np.searchsorted(upto, upto[-1] / 2))]]


def rectify(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out of a page and make it straight.

    A crop at least 1.5 times as high as wide is a line that runs downwards: it is turned by 90 degrees
    counter-clockwise.

    Args:
        image: [H, W, 3] uint8.
        quad: corners [4, 2] of the line, clockwise from the top left.

    Returns:
        [h, w, 3] uint8, where h and w are the longer ones of opposite sides.

    Raises:
        SlimError: there are not four corners, or one is not finite.
    """
    quad = polygons.checked(quad, "a box")
    if len(quad) != 4:
        raise SlimError(f"a box of {len(quad)} corners cannot be made straight: take the rectangle around it")
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    width, height = (max(1, round(float(max(sides[i], sides[i + 2])))) for i in (0, 1))
    # OpenCV warps images of up to 32767 pixels a side: a page may be longer than that, a line is not.
    low = np.clip(np.floor(quad.min(axis=0)).astype(int) - 2, 0, np.array(image.shape[1::-1]) - 1)
    high = np.maximum(np.ceil(quad.max(axis=0)).astype(int) + 3, low + 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(quad - low.astype(np.float32), corners)
    crop = cv2.warpPerspective(part, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(np.rot90(crop)) if height >= UPRIGHT * width else crop
