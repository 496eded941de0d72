"""Training batches of text lines that are upright or upside down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.data.batches import LoaderSettings, TrainingData
from ppocr_slim.data.labels import CheckedSample
from ppocr_slim.data.lines import WORK_SCALE, ImageCache
from ppocr_slim.runtime.direction import half_turned
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch
from ppocr_slim.runtime.specs import ClsSpec


@dataclass(frozen=True)
class CropBatch:
    """A batch for a direction classifier.

    Attributes:
        image: [N, 3, height, width] float32.
        labels: [N] int64; 0 is upright, 1 upside down.
        sources: label file and line of each sample.
    """

    image: np.ndarray
    labels: np.ndarray
    sources: tuple[str, ...]


class TrainingCrops(TrainingData):
    """Upright text lines as batches, each turned by 180 degrees with probability 0.5.

    Args:
        samples: see `TrainingData`.
        spec: says the input size of the classifier.
        loader: see `LoaderSettings`.
    """

    def __init__(self, samples: Sequence[CheckedSample], spec: ClsSpec, loader: LoaderSettings):
        super().__init__(samples, loader)
        self.spec, self._cache = spec, ImageCache(loader.cache_mb)

    def _item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
        image = self._augmenter.augment_image(self._image(index), rng)
        return self._to_item(image, index, turned=bool(rng.random() < 0.5))

    def _plain_item(self, index: int) -> tuple[np.ndarray, int, str]:
        return self._to_item(self._image(index), index, turned=bool(index % 2))

    def _to_item(self, image: np.ndarray, index: int, turned: bool) -> tuple[np.ndarray, int, str]:
        image = half_turned(image) if turned else image
        return resize_to_height(image, self.spec.height, self.spec.width), int(turned), self.samples[index].where

    def _image(self, index: int) -> np.ndarray:
        path = self.samples[index].path
        return self._cache.get(index, lambda: resize_to_height(load_image(path), round(self.spec.height * WORK_SCALE)))

    def _batch(self, items: Sequence[tuple[np.ndarray, int, str]]) -> CropBatch:
        images, labels, sources = zip(*items)
        return CropBatch(to_batch(images, self.spec.width), np.array(labels, np.int64), sources)
