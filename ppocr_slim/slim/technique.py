"""What a slimming technique is to a training: a few methods, and what it may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.task import Outputs, Task

Transform = dict[str, Any]
"""How a network's structure differs from what its builder makes (see `models.transforms`)."""


@dataclass(frozen=True)
class Context:
    """What a step may use; but for `is_first`, every process of a training gets the same.

    Attributes:
        folder: the stage's, for what a step keeps: measurements, plots, caches.
        card: of the network as it comes into the stage.
        task: its loss, its data and its figures.
        calibration: that many training samples without augmentation, spread over all of them, in batches.
        score: the network's scores on the evaluation samples, shared out: all processes must call it. Nothing may be
            tuned by it, only stopped and reported.
        augmented: whether the training samples are augmented.
        seed: of the experiment.
        is_first: whether this process writes files.
        wait: returns when all processes have called it; within half a minute, or the run ends.
    """

    folder: Path
    card: ModelCard
    task: Task
    calibration: Callable[[int], list[Any]]
    score: Callable[[nn.Layer], Any]
    augmented: bool
    seed: int
    is_first: bool
    wait: Callable[[], None]


class Technique:
    """A technique in a training stage. The methods do nothing unless a technique needs them.

    Attributes:
        name: of what `digest` is of.
        supervised_weight: what the task's own loss is multiplied by.
    """

    name: str = ""
    supervised_weight: float = 1.0

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Change the network in place, before its optimizer exists; gives the transforms that rebuild the change.

        Called with trained weights, before the stage's first checkpoint; a stage that resumes rebuilds the network from
        its own.
        """
        return []

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Get ready to train `model`, be it just prepared or rebuilt."""

    def extras(self) -> dict[str, nn.Layer]:
        """Networks trained beside the model: kept for resuming, no part of the checkpoint's weights."""
        return {}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """Weighted losses to be added to the task's own, by name."""
        return {}

    def after_backward(self, model: nn.Layer) -> None:
        """The gradients are there, averaged over the processes; the optimizer has not used them yet."""

    def digest(self) -> str:
        """What tells a training by this step from others, beyond the config, such as a teacher. "" for none."""
        return ""

    def finish(self, best: Path, context: Context) -> None:
        """The stage is trained, its best checkpoint lies in `best`; may be called again. The first process alone."""
