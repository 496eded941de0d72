"""Training batches of text rows: a function of (seed, epoch, position), bucketed by width, made off the main thread."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from ppocr_slim.config.schema import Augmentation
from ppocr_slim.data.augment import Augmenter, Row
from ppocr_slim.data.charset import Charset, needed_steps
from ppocr_slim.data.labels import Sample
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch

WORK_SCALE = 1.5  # rows are augmented at this multiple of the model's height, so that warps cost no sharpness
GROUP_BATCHES = 8  # so many batches are augmented together and sorted by the widths that come out


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
    sources: Tuple[str, ...]


class TrainingRows:
    """The training samples as an endless, seekable sequence of batches.

    Batches are cut from a group of rows sorted by width after augmentation, which changes widths more than they
    differ by themselves: unsorted, a third of a batch was padding.

    Args:
        samples: usable samples, checked before (see `data.doctor`).
        ratios: how often each sample is seen in an epoch (see `TrainFile.ratio`).
        steps: output steps of the model for an image width.
        workers: threads that make groups of batches ahead of their use.
        part: (k, n): every n-th row of each epoch's order from the k-th on, for the k-th of n processes. All parts
            have as many batches; the order's first rows fill up what is missing at its end.
        cache_mb: megabytes for rows that are decoded and resized already; the others are decoded each time.
        one_writer: for each sample whether its folder holds the rows of one writer (see `TrainFile.writer_folders`);
            None: all do. Words are glued within a writer's rows, otherwise within the row.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        ratios: Sequence[float],
        charset: Charset,
        height: int,
        steps: Callable[[int], int],
        batch_size: int,
        augment: Sequence[Augmentation],
        seed: int,
        workers: int = 1,
        part: Tuple[int, int] = (0, 1),
        one_writer: Optional[Sequence[bool]] = None,
        cache_mb: float = 0,
    ):
        self.samples, self.charset, self.height, self.steps = list(samples), charset, height, steps
        self.ratios, self.batch_size, self.augment = np.asarray(ratios), batch_size, list(augment)
        self.seed, self.workers, self.part = seed, workers, part
        self.one_writer = [True] * len(self.samples) if one_writer is None else list(one_writer)
        self._by_folder: Dict[Path, List[int]] = {}  # the rows of each writer
        for index, sample in enumerate(self.samples):
            if self.one_writer[index]:
                self._by_folder.setdefault(sample.path.parent, []).append(index)
        self._local, self._cache = threading.local(), ImageCache(cache_mb)
        self._length = -(-len(self._order(0)) // batch_size)

    def __len__(self) -> int:
        """Batches in an epoch: the same in every epoch."""
        return self._length

    @property
    def digest(self) -> str:
        """What tells these rows from others: a hash of paths, texts and ratios, in their order."""
        seen = [(str(sample.path), sample.text, float(r)) for sample, r in zip(self.samples, self.ratios)]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def _order(self, epoch: int) -> np.ndarray:
        """The sample indices of this part of an epoch in random order."""
        rng = np.random.default_rng([self.seed, epoch])
        chosen = []
        for ratio in np.unique(self.ratios):
            members = np.flatnonzero(self.ratios == ratio)
            whole, rest = divmod(max(1, round(ratio * len(members))), len(members))
            chosen += [np.tile(members, whole), rng.permutation(members)[:rest]]
        order = rng.permutation(np.concatenate(chosen))
        rank, count = self.part
        return np.resize(order, -(-len(order) // count) * count)[rank::count]

    def plain(self, count: int) -> List[Batch]:
        """`count` rows (all, if there are fewer), spread evenly over the samples, without augmentation, in batches.

        The same rows in every part.
        """
        chosen = np.unique(np.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).astype(int))
        rows = [self._plain_row(int(index)) for index in chosen]
        made = [
            (resize_to_height(row.image, self.height), row.text, self.samples[index].where)
            for row, index in zip(rows, chosen)
        ]
        made.sort(key=lambda row: row[0].shape[1])
        return [self._batch(made[i : i + self.batch_size]) for i in range(0, len(made), self.batch_size)]

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches from number `first` (counted over all epochs) on, without end."""
        epoch, skipped = divmod(first, len(self))
        group, skipped = divmod(skipped, GROUP_BATCHES)
        ahead: deque = deque()
        cv2.setNumThreads(1)  # the network has the other cores
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                while True:
                    while len(ahead) < 1 + self.workers:
                        ahead.append(pool.submit(self._make_group, epoch, group))
                        group += 1
                        if group * GROUP_BATCHES >= len(self):
                            epoch, group = epoch + 1, 0
                    yield from ahead.popleft().result()[skipped:]
                    skipped = 0
            finally:
                for job in ahead:
                    job.cancel()

    def _make_group(self, epoch: int, group: int) -> List[Batch]:
        size = GROUP_BATCHES * self.batch_size
        start = group * size
        rank, count = self.part
        made = []
        for place, index in enumerate(self._order(epoch)[start : start + size], start):
            row = self._row(int(index), np.random.default_rng([self.seed, epoch, place * count + rank]))
            made.append((resize_to_height(row.image, self.height), row.text, self.samples[index].where))
        made.sort(key=lambda row: row[0].shape[1])
        batches = [self._batch(made[i : i + self.batch_size]) for i in range(0, len(made), self.batch_size)]
        order = np.random.default_rng([self.seed, epoch, start]).permutation(len(batches))
        return [batches[i] for i in order]

    def _batch(self, rows: Sequence[Tuple[np.ndarray, str, str]]) -> Batch:
        images, texts, sources = zip(*rows)
        labels = [self.charset.encode(text) for text in texts]
        lengths = np.array([len(label) for label in labels], np.int64)
        padded = np.zeros((len(rows), lengths.max()), np.int32)
        for line, label in zip(padded, labels):
            line[: len(label)] = label
        return Batch(to_batch(images, max(image.shape[1] for image in images)), padded, lengths, sources)

    def _row(self, index: int, rng: np.random.Generator) -> Row:
        if not hasattr(self._local, "augmenter"):
            self._local.augmenter = Augmenter(self.augment)
        return self._local.augmenter(self._plain_row(index), rng, self._fits)

    def _plain_row(self, index: int) -> Row:
        sample = self.samples[index]
        image = self._cache.get(
            index, lambda: resize_to_height(load_image(sample.path), round(self.height * WORK_SCALE))
        )
        siblings = self._by_folder[sample.path.parent] if self.one_writer[index] else [index]
        return Row(image, sample.text, lambda rng: self._plain_row(siblings[int(rng.integers(len(siblings)))]))

    def _fits(self, row: Row) -> bool:
        """Whether the model's output steps can still carry the row's text."""
        height, width = row.image.shape[:2]
        steps = self.steps(max(1, round(width * self.height / height)))
        return 0 < len(row.text) and needed_steps(row.text) <= steps
