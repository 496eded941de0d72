"""Training batches of pages: random crops with the target maps of DB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ppocr_slim.data.batches import LoaderSettings, TrainingData
from ppocr_slim.data.labels import CheckedSample
from ppocr_slim.data.maps import Maps, db_maps
from ppocr_slim.data.page_labels import PageSample
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import pages_to_batch
from ppocr_slim.runtime.specs import DetSpec

ZOOM = (0.5, 1.5)  # random scale, relative to the size at which the detector sees a page
TURN = 10.0  # maximum random rotation, degrees in either direction
ON_TEXT = 0.9  # fraction of crops that are placed on a text line; the others are anywhere


@dataclass(frozen=True)
class PageBatch:
    """A batch for a detector.

    Attributes:
        image: [N, 3, S, S] float32.
        shrink, shrink_mask, threshold, threshold_mask: see `Maps`, [N, S, S] float32 each.
        sources: label file and line of each page.
    """

    image: np.ndarray
    shrink: np.ndarray
    shrink_mask: np.ndarray
    threshold: np.ndarray
    threshold_mask: np.ndarray
    sources: tuple[str, ...]


class TrainingPages(TrainingData):
    """Pages as batches of crops.

    A page is always scaled, rotated and cropped at random; `augment` adds transforms that leave the geometry. Lines
    that the crop cuts remain text: half a line on a partly photographed page is a line, too.

    Args:
        samples: see `TrainingData`.
        spec: says the input size of the detector and the shrink ratio.
        crop: side S of a crop, pixels.
        loader: see `LoaderSettings`.
    """

    def __init__(self, samples: Sequence[CheckedSample], spec: DetSpec, crop: int, loader: LoaderSettings):
        super().__init__(samples, loader)
        self.spec, self.crop = spec, crop

    def _identity(self, sample: PageSample) -> tuple[Any, ...]:
        return str(sample.path), sample.texts, [points.tolist() for points in sample.outlines]

    def _item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Maps, str]:
        sample = self.samples[index]
        image = load_image(sample.path)
        zoom = np.exp(rng.uniform(*np.log(ZOOM)))
        image, outlines = self._scaled(image, sample, zoom)
        image, outlines = self._crop(image, outlines, sample.ignored, rng)
        return self._augmenter.augment_image(image, rng), self._maps(outlines, sample), sample.where

    def _plain_item(self, index: int) -> tuple[np.ndarray, Maps, str]:
        """Return the middle of the page, at the scale at which the detector sees it."""
        sample = self.samples[index]
        image, outlines = self._scaled(load_image(sample.path), sample, 1.0)
        height, width = image.shape[:2]
        image, outlines = _warped(image, outlines, 0.0, (width / 2, height / 2), (0.5, 0.5), self.crop)
        return image, self._maps(outlines, sample), sample.where

    def _batch(self, items: Sequence[tuple[np.ndarray, Maps, str]]) -> PageBatch:
        images, maps, sources = zip(*items)
        names = ("shrink", "shrink_mask", "threshold", "threshold_mask")
        return PageBatch(
            pages_to_batch(images), *(np.stack([getattr(page, name) for page in maps]) for name in names), sources
        )

    def _scaled(self, image: np.ndarray, sample: PageSample, zoom: float) -> tuple[np.ndarray, list[np.ndarray]]:
        height, width = image.shape[:2]
        scale = min(1.0, self.spec.longer_side / max(height, width)) * zoom
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        factors = np.array([size[0] / width, size[1] / height], np.float32)
        return image, [points * factors for points in sample.outlines]

    def _crop(
        self, image: np.ndarray, outlines: list[np.ndarray], ignored: Sequence[bool], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        height, width = image.shape[:2]
        wanted = [points for points, ignore in zip(outlines, ignored) if not ignore]
        if wanted and rng.random() < ON_TEXT:
            points = wanted[int(rng.integers(len(wanted)))]
            low, high = points.min(axis=0), points.max(axis=0)
            middle = tuple(float(v) for v in rng.uniform(low, high))
        else:
            middle = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        place = tuple(float(v) for v in rng.uniform(0.1, 0.9, 2))
        return _warped(image, outlines, float(rng.uniform(-TURN, TURN)), middle, place, self.crop)

    def _maps(self, outlines: list[np.ndarray], sample: PageSample) -> Maps:
        return db_maps(outlines, sample.ignored, (self.crop, self.crop), self.spec.boxes.shrink_ratio)


def _warped(
    image: np.ndarray,
    outlines: Sequence[np.ndarray],
    degrees: float,
    middle: tuple[float, float],
    place: tuple[float, float],
    side: int,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rotate an image and cut out a square.

    The square is moved to lie on the image as far as possible; the rest has the image's mean colour.

    Args:
        degrees: the angle of rotation around `middle`.
        middle: (x, y) in pixels.
        place: where `middle` lies in the square, as fractions of its sides.
        side: of the square, pixels.

    Returns:
        The square and the outlines in its pixels.
    """
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    matrix[:, 2] += np.array(place) * side - middle
    # A page as large as the crop must cover it, except for the corners that the rotation uncovers.
    corners = cv2.transform(np.array([[[0, 0], [width, height]]], np.float64), matrix)[0]
    for axis, size in enumerate((width, height)):
        low, high = corners[:, axis].min(), corners[:, axis].max()
        if size >= side:
            matrix[axis, 2] += min(0.0, -low) if low > 0 else max(0.0, side - high)
    fill = cv2.mean(image)[:3]
    warped = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=fill)
    moved = [cv2.transform(points[None].astype(np.float64), matrix)[0].astype(np.float32) for points in outlines]
    return warped, moved
