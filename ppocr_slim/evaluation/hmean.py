"""How well text was found: precision, recall and their harmonic mean, as ICDAR 2015 (challenge 4, task 1) has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import polygons

MIN_IOU = 0.5  # a detection that has more in common with a ground truth has found it
MIN_INSIDE = 0.5  # a detection that lies within an ignored text by a larger part of its area counts for nothing


@dataclass(frozen=True)
class Found:
    """Counts of one page, or of several that were added up with `+`.

    Attributes:
        matched: ground truths that were found, each by a detection of its own.
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
        """Share of detections that are right; without any, 1 if there was nothing to find and 0 otherwise."""
        return self.matched / self.detections if self.detections else float(not self.truths)

    @property
    def recall(self) -> float:
        """Share of ground truths that were found; 1 if there are none."""
        return self.matched / self.truths if self.truths else 1.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score_page(truths: Sequence[np.ndarray], ignored: Sequence[bool], detections: Sequence[np.ndarray]) -> Found:
    """Compare detections with ground truths: polygons [P_i, 2] in pixels of the page, and which truths are "###".

    As in the protocol's program, each truth in turn takes the first detection that fits and is not taken yet. A truth
    whose border crosses itself is ignored: nobody can say what it means. A detection that does is a wrong one.

    Raises:
        SlimError: a polygon has fewer than three corners or one that is not finite, or the flags are not as many.
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
    for row in fits:
        free = [number for number in np.flatnonzero(row).tolist() if number not in taken]
        taken += free[:1]
    return Found(matched=len(taken), truths=len(wanted), detections=int(counted.sum()))


def _overlaps(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Areas [len(a), len(b)] float64 in squared pixels that each two polygons have in common."""
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
