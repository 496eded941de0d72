"""Training batches of text rows: a function of (seed, epoch, position), bucketed by width, made off the main thread."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ppocr_slim.config.schema import Augmentation
from ppocr_slim.data.augment import Augmenter, Row
from ppocr_slim.data.charset import Charset, needed_steps
from ppocr_slim.data.labels import Sample
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch

WORK_SCALE = 1.5  # rows are augmented at this multiple of the model's height, so that warps cost no sharpness
BUCKET_BATCHES = 40  # rows are sorted by width within this many batches: near-equal widths, yet a fresh mix an epoch


@dataclass(frozen=True)
class Batch:
    """image [N, 3, H, W] float32, labels [N, L] int32 padded with 0, lengths [N] int64, and where rows came from."""

    image: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    sources: Tuple[str, ...]


class TrainingRows:
    """The training samples as an endless, seekable sequence of batches.

    Args:
        samples: usable samples, checked before (see `data.doctor`).
        aspects: width over height of each sample's image.
        ratios: how often each sample is seen in an epoch (see `LabelFile.ratio`).
        steps: output steps of the model for an image width.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        aspects: Sequence[float],
        ratios: Sequence[float],
        charset: Charset,
        height: int,
        steps: Callable[[int], int],
        batch_size: int,
        augment: Sequence[Augmentation],
        seed: int,
        workers: int = 1,
    ):
        self.samples, self.charset, self.height, self.steps = list(samples), charset, height, steps
        self.aspects, self.ratios = np.asarray(aspects), np.asarray(ratios)
        self.batch_size, self.augment, self.seed, self.workers = batch_size, list(augment), seed, workers
        self._by_folder: Dict[Path, List[int]] = {}  # a folder holds one writer's rows
        for index, sample in enumerate(self.samples):
            self._by_folder.setdefault(sample.path.parent, []).append(index)
        self._local = threading.local()
        self._length = len(self._plan(0))

    def __len__(self) -> int:
        """Batches in an epoch: the same in every epoch."""
        return self._length

    def _plan(self, epoch: int) -> List[np.ndarray]:
        """The sample indices of every batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        order = []
        for ratio in np.unique(self.ratios):
            members = np.flatnonzero(self.ratios == ratio)
            count = max(1, round(ratio * len(members)))
            whole, rest = divmod(count, len(members))
            order += [np.tile(members, whole), rng.permutation(members)[:rest]]
        order = rng.permutation(np.concatenate(order))
        bucket = self.batch_size * BUCKET_BATCHES
        batches = []
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            part = part[np.argsort(self.aspects[part], kind="stable")]
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches from number `first` (counted over all epochs) on, without end, a few made ahead of their use."""
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque = deque()
            number = first
            epoch, plan = -1, []
            try:
                while True:
                    while len(ahead) < 3 + self.workers:
                        if number // len(self) != epoch:
                            epoch = number // len(self)
                            plan = self._plan(epoch)
                        position = number % len(self)
                        ahead.append(pool.submit(self._make, plan[position], epoch, position))
                        number += 1
                    yield ahead.popleft().result()
            finally:
                for job in ahead:
                    job.cancel()

    def _make(self, indices: np.ndarray, epoch: int, position: int) -> Batch:
        rows = [
            self._row(int(index), np.random.default_rng([self.seed, epoch, position, place]))
            for place, index in enumerate(indices)
        ]
        images = [resize_to_height(row.image, self.height) for row in rows]
        labels = [self.charset.encode(row.text) for row in rows]
        lengths = np.array([len(label) for label in labels], np.int64)
        padded = np.zeros((len(rows), lengths.max()), np.int32)
        for line, label in zip(padded, labels):
            line[: len(label)] = label
        width = max(image.shape[1] for image in images)
        sources = tuple(self.samples[int(i)].where for i in indices)
        return Batch(to_batch(images, width), padded, lengths, sources)

    def _row(self, index: int, rng: np.random.Generator) -> Row:
        if not hasattr(self._local, "augmenter"):
            self._local.augmenter = Augmenter(self.augment)
        return self._local.augmenter(self._plain_row(index), rng, self._fits)

    def _plain_row(self, index: int) -> Row:
        sample = self.samples[index]
        image = resize_to_height(load_image(sample.path), round(self.height * WORK_SCALE))
        siblings = self._by_folder[sample.path.parent]
        return Row(image, sample.text, lambda rng: self._plain_row(siblings[int(rng.integers(len(siblings)))]))

    def _fits(self, row: Row) -> bool:
        """Whether the model's output steps can still carry the row's text."""
        height, width = row.image.shape[:2]
        steps = self.steps(max(1, round(width * self.height / height)))
        return 0 < len(row.text) and needed_steps(row.text) <= steps
