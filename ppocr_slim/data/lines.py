"""Training batches of text rows, bucketed by width."""

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

WORK_SCALE = 1.5  # rows are augmented at this multiple of the model's height, so that warps cost no sharpness


class ImageCache:
    """Images by number, as many as there is room for. Rows are drawn at random, so none is given up for another."""

    def __init__(self, megabytes: float):
        self._room, self._images, self._lock = int(megabytes * 1e6), {}, threading.Lock()

    def get(self, number: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Image `number`, by `make` if it is not here. It is shared: nobody can write to it."""
        image = self._images.get(number)
        if image is None:
            image = make()
            image.setflags(write=False)
            with self._lock:
                if number not in self._images and image.nbytes <= self._room:
                    self._room -= image.nbytes
                    self._images[number] = image
        return image


@dataclass(frozen=True)
class Batch:
    """image [N, 3, H, W] float32, labels [N, L] int32 padded with 0, lengths [N] int64, and where rows came from."""

    image: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    sources: tuple[str, ...]


_Made = tuple[np.ndarray, str, str]  # image [H, W, 3] uint8 at the model's height, text, where it is from


class TrainingLines(TrainingData):
    """Text rows as batches.

    Batches are cut from a group of rows sorted by width after augmentation, which changes widths more than they
    differ by themselves: unsorted, a third of a batch was padding.

    Args:
        samples: words are glued within the lines of one writer, otherwise within the line.
        charset: of the model.
        height: of the model's input, pixels.
        time_steps: output steps of the model for an image width.
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
        self._by_folder: dict[Path, list[int]] = {}  # the rows of each writer
        for index, sample in enumerate(self.samples):
            if self.one_writer[index]:
                self._by_folder.setdefault(sample.path.parent, []).append(index)
        self._cache = ImageCache(loader.cache_mb)

    def _item(self, index: int, rng: np.random.Generator) -> _Made:
        return self._made(self._augmenter(self._row(index), rng, self._fits), index)

    def _plain_item(self, index: int) -> _Made:
        return self._made(self._row(index), index)

    def _made(self, row: LineImage, index: int) -> _Made:
        return resize_to_height(row.image, self.height), row.text, self.samples[index].where

    def _arranged(self, items: list[_Made]) -> list[_Made]:
        return sorted(items, key=lambda made: made[0].shape[1])

    def _batch(self, items: Sequence[_Made]) -> Batch:
        images, texts, sources = zip(*items)
        labels = [self.charset.encode(text) for text in texts]
        lengths = np.array([len(label) for label in labels], np.int64)
        padded = np.zeros((len(items), lengths.max()), np.int32)
        for line, label in zip(padded, labels):
            line[: len(label)] = label
        return Batch(to_batch(images, max(image.shape[1] for image in images)), padded, lengths, sources)

    def _row(self, index: int) -> LineImage:
        sample = self.samples[index]
        image = self._cache.get(
            index, lambda: resize_to_height(load_image(sample.path), round(self.height * WORK_SCALE))
        )
        siblings = self._by_folder[sample.path.parent] if self.one_writer[index] else [index]
        return LineImage(image, sample.text, lambda rng: self._row(siblings[int(rng.integers(len(siblings)))]))

    def _fits(self, row: LineImage) -> bool:
        """Whether the model's output steps can still carry the row's text."""
        height, width = row.image.shape[:2]
        steps = self.time_steps(max(1, round(width * self.height / height)))
        return 0 < len(row.text) and needed_time_steps(row.text) <= steps
