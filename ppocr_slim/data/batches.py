"""Training data as an endless, seekable sequence of batches, prepared by worker threads.

A batch is a function of (seed, epoch, position): resuming needs only a step number, and the number of threads does not
change it.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from ppocr_slim.config.schema import Augmentation, Config
from ppocr_slim.data.augment import Augmenter
from ppocr_slim.data.labels import CheckedSample


@dataclass(frozen=True)
class LoaderSettings:
    """Options of the data loader.

    Attributes:
        batch_size: samples per batch.
        augment: augmentations of each sample, in order.
        seed: seed of the order and of the augmentation.
        workers: threads that prepare groups of batches ahead of their use.
        part: (k, n) for process k of n: every n-th sample of each epoch's order, from the k-th on. All parts have the
            same number of batches; where samples are missing at the end, the first ones are repeated.
        cache_mb: megabytes of decoded and resized images to keep; the others are decoded each time.
    """

    batch_size: int
    augment: Sequence[Augmentation] = ()
    seed: int = 1
    workers: int = 1
    part: tuple[int, int] = (0, 1)
    cache_mb: float = 0

    @classmethod
    def from_config(cls, config: Config, part: tuple[int, int]) -> LoaderSettings:
        """Return the options of a config, for one of the training processes."""
        data = config.train
        batch_size = config.step_batch // part[1]
        return cls(batch_size, data.augment, config.run.seed, data.workers, part, data.cache_mb / part[1])


class TrainingData(ABC):
    """Base class of training data sets. A subclass turns a sample into an item, and items into a batch.

    Args:
        samples: usable samples, checked before (see `data.doctor`).
        loader: options of the data loader.

    Attributes:
        group_batches: number of batches that are prepared together.
    """

    group_batches: ClassVar[int] = 1

    def __init__(
        self,
        samples: Sequence[CheckedSample],
        loader: LoaderSettings,
    ):
        self.samples = [checked.sample for checked in samples]
        self.ratios = np.array([checked.ratio for checked in samples])
        self.loader = loader
        self._local = threading.local()
        self._length = -(-len(self._order(0)) // loader.batch_size)

    @property
    def _augmenter(self) -> Augmenter:
        """The augmenter of the calling thread."""
        if not hasattr(self._local, "augmenter"):
            self._local.augmenter = Augmenter(self.loader.augment)
        return self._local.augmenter

    @abstractmethod
    def _item(self, index: int, rng: np.random.Generator) -> Any:
        """Return sample `index`, augmented with random numbers from `rng`."""

    @abstractmethod
    def _plain_item(self, index: int) -> Any:
        """Return sample `index` without augmentation."""

    @abstractmethod
    def _batch(self, items: Sequence[Any]) -> Any:
        """Return the items as a batch; its `sources` name the label file and line of each sample."""

    def _arranged(self, items: list[Any]) -> list[Any]:
        """Return the items of a group in the order in which they are divided into batches."""
        return items

    def _identity(self, sample: Any) -> tuple[Any, ...]:
        """Return the values that identify a sample, for `digest`."""
        return str(sample.path), sample.text

    def __len__(self) -> int:
        """Return the number of batches per epoch, the same in every epoch."""
        return self._length

    @property
    def digest(self) -> str:
        """Hash of paths, labels and ratios, in order: equal for equal training data."""
        identities = [(*self._identity(sample), float(r)) for sample, r in zip(self.samples, self.ratios)]
        return hashlib.sha256(repr(identities).encode()).hexdigest()[:16]

    def _order(self, epoch: int) -> np.ndarray:
        """Return the sample indices of this part of an epoch, in random order."""
        rng = np.random.default_rng([self.loader.seed, epoch])
        chosen = []
        for ratio in np.unique(self.ratios):
            members = np.flatnonzero(self.ratios == ratio)
            whole, rest = divmod(max(1, round(ratio * len(members))), len(members))
            chosen += [np.tile(members, whole), rng.permutation(members)[:rest]]
        order = rng.permutation(np.concatenate(chosen))
        rank, count = self.loader.part
        return np.resize(order, -(-len(order) // count) * count)[rank::count]

    def plain(self, count: int) -> list[Any]:
        """Return batches of `count` evenly spaced samples (all, if there are fewer), without augmentation.

        They are the same in every part.
        """
        chosen = np.unique(np.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).astype(int))
        return self._to_batches([self._plain_item(int(index)) for index in chosen])

    def batches(self, first: int) -> Iterator[Any]:
        """Yield batches endlessly, from number `first` (counted over all epochs) on."""
        epoch, skipped = divmod(first, len(self))
        group, skipped = divmod(skipped, self.group_batches)
        ahead: deque = deque()
        cv2.setNumThreads(1)  # the network has the other cores
        with ThreadPoolExecutor(self.loader.workers) as pool:
            try:
                while True:
                    while len(ahead) < 1 + self.loader.workers:
                        ahead.append(pool.submit(self._load_group, epoch, group))
                        group += 1
                        if group * self.group_batches >= len(self):
                            epoch, group = epoch + 1, 0
                    yield from ahead.popleft().result()[skipped:]
                    skipped = 0
            finally:
                for job in ahead:
                    job.cancel()

    def _load_group(self, epoch: int, group: int) -> list[Any]:
        """Return the batches of a group, in random order."""
        size = self.group_batches * self.loader.batch_size
        start = group * size
        rank, count = self.loader.part
        items = [
            self._item(int(index), np.random.default_rng([self.loader.seed, epoch, place * count + rank]))
            for place, index in enumerate(self._order(epoch)[start : start + size], start)
        ]
        batches = self._to_batches(items)
        order = np.random.default_rng([self.loader.seed, epoch, start]).permutation(len(batches))
        return [batches[i] for i in order]

    def _to_batches(self, items: list[Any]) -> list[Any]:
        """Return the items arranged and divided into batches."""
        items, size = self._arranged(items), self.loader.batch_size
        return [self._batch(items[i : i + size]) for i in range(0, len(items), size)]
