"""Training batches of text lines, bucketed by width."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppocr_slim.data.augment import LineImage
from ppocr_slim.data.batches import LoaderSettings, TrainingData
from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.labels import CheckedSample
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch

WORK_SCALE = 1.5  # lines are augmented at this multiple of the model's height, so that warps cost no sharpness


class ImageCache:
    """A cache of images by number, up to a size. Nothing is evicted: samples are drawn at random, all as likely."""

    def __init__(self, megabytes: float):
        self._free, self._images, self._lock = int(megabytes * 1e6), {}, threading.Lock()

    def get(self, number: int, load: Callable[[], np.ndarray]) -> np.ndarray:
        """Return image `number`, by `load` if it is not cached. The image is shared and therefore read-only."""
        image = self._images.get(number)
        if image is None:
            image = load()
            image.setflags(write=False)
            with self._lock:
                if number not in self._images and image.nbytes <= self._free:
                    self._free -= image.nbytes
                    self._images[number] = image
        return image


@dataclass(frozen=True)
class Batch:
    """A batch for a recognizer.

    Attributes:
        image: [N, 3, H, W] float32.
        labels: [N, L] int32, padded with 0.
        lengths: [N] int64, the length of each label.
        sources: label file and line of each sample.
    """

    image: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    sources: tuple[str, ...]


_Item = tuple[np.ndarray, str, str]  # image [H, W, 3] uint8 at the model's height, text, label file and line


class TrainingLines(TrainingData):
    """Text lines as batches.

    Batches are cut from a group of lines sorted by width after augmentation, which changes widths more than they
    differ by themselves: unsorted, a third of a batch was padding.

    Args:
        samples: usable samples; `glue_words` joins words of the lines of one writer where the folder is known to be
            one writer's, else of one line.
        charset: character set of the model.
        height: height of the model's input, pixels.
        time_steps: time steps of the model's output for an image width.
        loader: see `LoaderSettings`.
    """

    group_batches = 8

    def __init__(
        self,
        samples: Sequence[CheckedSample],
        charset: Charset,
        height: int,
        time_steps: Callable[[int], int],
        loader: LoaderSettings,
    ):
        super().__init__(samples, loader)
        self.charset, self.height, self.time_steps = charset, height, time_steps
        self.one_writer = [checked.one_writer for checked in samples]
        self._by_folder: dict[Path, list[int]] = {}  # the lines of each writer
        for index, sample in enumerate(self.samples):
            if self.one_writer[index]:
                self._by_folder.setdefault(sample.path.parent, []).append(index)
        self._cache = ImageCache(loader.cache_mb)

    def _item(self, index: int, rng: np.random.Generator) -> _Item:
        return self._to_item(self._augmenter(self._line(index), rng, self._fits), index)

    def _plain_item(self, index: int) -> _Item:
        return self._to_item(self._line(index), index)

    def _to_item(self, line: LineImage, index: int) -> _Item:
        return resize_to_height(line.image, self.height), line.text, self.samples[index].where

    def _arranged(self, items: list[_Item]) -> list[_Item]:
        return sorted(items, key=lambda item: item[0].shape[1])

    def _batch(self, items: Sequence[_Item]) -> Batch:
        images, texts, sources = zip(*items)
        labels = [self.charset.encode(text) for text in texts]
        lengths = np.array([len(label) for label in labels], np.int64)
        padded = np.zeros((len(items), lengths.max()), np.int32)
        for row, label in zip(padded, labels):
            row[: len(label)] = label
        return Batch(to_batch(images, max(image.shape[1] for image in images)), padded, lengths, sources)

    def _line(self, index: int) -> LineImage:
        sample = self.samples[index]
        image = self._cache.get(
            index, lambda: resize_to_height(load_image(sample.path), round(self.height * WORK_SCALE))
        )
        siblings = self._by_folder[sample.path.parent] if self.one_writer[index] else [index]
        return LineImage(image, sample.text, lambda rng: self._line(siblings[int(rng.integers(len(siblings)))]))

    def _fits(self, line: LineImage) -> bool:
        """Return whether the model's output has enough time steps for the line's text."""
        height, width = line.image.shape[:2]
        steps = self.time_steps(max(1, round(width * self.height / height)))
        return 0 < len(line.text) and needed_time_steps(line.text) <= steps
