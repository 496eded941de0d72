"""Training data as an endless, seekable sequence of batches, made off the main thread.

A batch is a function of (seed, epoch, position): resuming needs a step number, and threads change nothing.
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
    """How samples become batches.

    Attributes:
        batch_size: samples in a batch.
        augment: transforms of each sample, in their order.
        seed: of the order and the augmentation.
        workers: threads that make groups of batches ahead of their use.
        part: (k, n): every n-th sample of each epoch's order from the k-th on, for the k-th of n processes. All parts
            have as many batches; the order's first samples fill up what is missing at its end.
        cache_mb: megabytes for images that are decoded and resized already; the others are decoded each time.
    """

    batch_size: int
    augment: Sequence[Augmentation] = ()
    seed: int = 1
    workers: int = 1
    part: tuple[int, int] = (0, 1)
    cache_mb: float = 0

    @classmethod
    def from_config(cls, config: Config, part: tuple[int, int]) -> LoaderSettings:
        """Return what a config says, for one of the processes of a training."""
        data = config.train
        return cls(data.batch_size, data.augment, config.run.seed, data.workers, part, data.cache_mb / part[1])


class TrainingData(ABC):
    """Training samples as batches. A kind of data says how a sample becomes an item and items become a batch.

    Args:
        samples: usable samples, checked before (see `data.doctor`).
        loader: how they become batches.

    Attributes:
        group_batches: so many batches are made together.
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
        """The calling thread's own."""
        if not hasattr(self._local, "augmenter"):
            self._local.augmenter = Augmenter(self.loader.augment)
        return self._local.augmenter

    @abstractmethod
    def _item(self, index: int, rng: np.random.Generator) -> Any:
        """Sample `index`, augmented by what `rng` draws."""

    @abstractmethod
    def _plain_item(self, index: int) -> Any:
        """Sample `index` without augmentation."""

    @abstractmethod
    def _batch(self, items: Sequence[Any]) -> Any:
        """A batch; its `sources` tell where its samples come from."""

    def _arranged(self, items: list[Any]) -> list[Any]:
        """The items of a group in the order in which batches are cut from them."""
        return items

    def _told_by(self, sample: Any) -> tuple[Any, ...]:
        """What tells a sample from others, for `digest`."""
        return str(sample.path), sample.text

    def __len__(self) -> int:
        """Batches in an epoch: the same in every epoch."""
        return self._length

    @property
    def digest(self) -> str:
        """What tells this data from other: a hash of paths, labels and ratios, in their order."""
        seen = [(*self._told_by(sample), float(r)) for sample, r in zip(self.samples, self.ratios)]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def _order(self, epoch: int) -> np.ndarray:
        """The sample indices of this part of an epoch in random order."""
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
        """`count` samples (all, if there are fewer), spread evenly over all, without augmentation, in batches.

        The same in every part.
        """
        chosen = np.unique(np.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).astype(int))
        return self._cut(self._arranged([self._plain_item(int(index)) for index in chosen]))

    def batches(self, first: int) -> Iterator[Any]:
        """Batches from number `first` (counted over all epochs) on, without end."""
        epoch, skipped = divmod(first, len(self))
        group, skipped = divmod(skipped, self.group_batches)
        ahead: deque = deque()
        cv2.setNumThreads(1)  # the network has the other cores
        with ThreadPoolExecutor(self.loader.workers) as pool:
            try:
                while True:
                    while len(ahead) < 1 + self.loader.workers:
                        ahead.append(pool.submit(self._make_group, epoch, group))
                        group += 1
                        if group * self.group_batches >= len(self):
                            epoch, group = epoch + 1, 0
                    yield from ahead.popleft().result()[skipped:]
                    skipped = 0
            finally:
                for job in ahead:
                    job.cancel()

    def _make_group(self, epoch: int, group: int) -> list[Any]:
        size = self.group_batches * self.loader.batch_size
        start = group * size
        rank, count = self.loader.part
        items = [
            self._item(int(index), np.random.default_rng([self.loader.seed, epoch, place * count + rank]))
            for place, index in enumerate(self._order(epoch)[start : start + size], start)
        ]
        batches = self._cut(self._arranged(items))
        order = np.random.default_rng([self.loader.seed, epoch, start]).permutation(len(batches))
        return [batches[i] for i in order]

    def _cut(self, items: list[Any]) -> list[Any]:
        return [
            self._batch(items[i : i + self.loader.batch_size]) for i in range(0, len(items), self.loader.batch_size)
        ]
