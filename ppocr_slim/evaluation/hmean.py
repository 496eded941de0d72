"""Precision, recall and hmean of text detection, by the protocol of ICDAR 2015 (challenge 4, task 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons

MIN_IOU = 0.5  # a detection with a larger IoU matches a ground truth
MIN_INSIDE = 0.5  # a detection with a larger fraction of its area within an ignored text is not counted


@dataclass(frozen=True)
class Found:
    """Counts of one page, or of several that were added with `+`.

    Attributes:
        matched: ground truths that were found, each by a different detection.
        truths: ground truths that are not ignored.
        detections: detections that do not lie within ignored ones.
    """

    matched: int = 0
    truths: int = 0
    detections: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(self.matched + other.matched, self.truths + other.truths, self.detections + other.detections)

    @property
    def precision(self) -> float:
        """Fraction of the detections that are correct; without any, 1 if there was nothing to find and 0 otherwise."""
        return self.matched / self.detections if self.detections else float(not self.truths)

    @property
    def recall(self) -> float:
        """Fraction of the ground truths that were found; 1 if there are none."""
        return self.matched / self.truths if self.truths else 1.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score_page(truths: Sequence[np.ndarray], ignored: Sequence[bool], detections: Sequence[np.ndarray]) -> Found:
    """Compare detections with the ground truth of a page.

    As in the protocol's program, each ground truth in turn takes the first detection that matches and is not taken yet.
    A ground truth whose border crosses itself is ignored: its meaning is not defined. Such a detection is wrong.

    Args:
        truths: polygons [P_i, 2] in pixels.
        ignored: which of them are "###".
        detections: polygons [P_i, 2] in pixels.

    Returns:
        The counts.

    Raises:
        SlimError: a polygon has fewer than three corners or one that is not finite, or the number of flags differs.
    """
    if len(truths) != len(ignored):
        raise SlimError(f"{len(truths)} ground truths and {len(ignored)} flags: each ground truth needs one")
    wanted: list[np.ndarray] = []
    unwanted: list[np.ndarray] = []
    for number, (points, ignore) in enumerate(zip(truths, ignored)):
        points = polygons.checked(points, f"ground truth {number}")
        simple = polygons.is_simple(points)
        (unwanted if ignore or not simple else wanted).append(points if simple else polygons.hull(points))
    found = [polygons.checked(points, f"detection {number}") for number, points in enumerate(detections)]
    sizes = np.array([polygons.area(points) if polygons.is_simple(points) else 0.0 for points in found])
    inside = _overlaps(unwanted, found)
    counted = ~((inside > MIN_INSIDE * sizes) & (sizes > 0)).any(axis=0)
    common = _overlaps(wanted, found)
    union = np.array([polygons.area(points) for points in wanted])[:, None] + sizes - common
    fits = (common > MIN_IOU * union) & counted & (sizes > 0)
    taken: list[int] = []
    for candidates in fits:
        free = [number for number in np.flatnonzero(candidates).tolist() if number not in taken]
        taken += free[:1]
    return Found(matched=len(taken), truths=len(wanted), detections=int(counted.sum()))


def _overlaps(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Return the areas of intersection [len(a), len(b)] float64 of each two polygons, in squared pixels."""
    areas = np.zeros((len(a), len(b)))
    if not len(a) or not len(b):
        return areas
    (low_a, high_a), (low_b, high_b) = _extents(a), _extents(b)
    meet = ((low_a[:, None] < high_b) & (low_b < high_a[:, None])).all(axis=-1)
    for i, j in zip(*np.nonzero(meet)):
        areas[i, j] = polygons.intersection_area(a[i], b[j])
    return areas


def _extents(outlines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p.min(axis=0) for p in outlines]), np.array([p.max(axis=0) for p in outlines])
