"""The interface between a slimming technique and the training loop."""

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
"""A change of a network's structure after it was built (see `models.transforms`)."""


@dataclass(frozen=True)
class Context:
    """All that a technique may use of a training stage; the same in every process, except `is_first`.

    Attributes:
        folder: the stage's folder, for measurements, plots and caches of the technique.
        card: the network's, as it enters the stage.
        task: the network's: its loss, data and metrics.
        calibration: returns a number of training samples without augmentation, evenly spaced over all of them, in
            batches.
        score: returns the network's metrics on the evaluation samples, which are divided among the processes: all of
            them must call it. The scores may stop a training and be reported; nothing may be tuned by them.
        augmented: whether the training samples are augmented.
        seed: the experiment's.
        is_first: whether this process writes files.
        wait: blocks until all processes have called it; if one does not within half a minute, the run ends.
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
    """Base class of the techniques of a training stage, with hooks that do nothing by default.

    Attributes:
        name: key of `digest` in a checkpoint.
        supervised_weight: factor of the task's own loss.
        folds: whether `prepare` works on the layers that ship: branches are folded before it.
    """

    name: str = ""
    folds: bool = False
    supervised_weight: float = 1.0

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Change the network in place, before its optimizer is built.

        Called with trained weights, before the stage's first checkpoint; a resumed stage rebuilds the network from its
        own checkpoint instead.

        Args:
            model: the network.
            context: the stage's.

        Returns:
            The transforms that rebuild the change.
        """
        return []

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Get ready to train the network, whether it was just prepared or rebuilt.

        Args:
            model: the network.
            context: the stage's.
        """

    def extras(self) -> dict[str, nn.Layer]:
        """Return the networks trained beside the model: saved for resuming, but not with the checkpoint's weights."""
        return {}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """Return weighted losses to add to the task's own, by name.

        Args:
            model: the network in training mode.
            outputs: the network's outputs for the batch.
            batch: of the task.
        """
        return {}

    def after_backward(self, model: nn.Layer) -> None:
        """Change the gradients, averaged over the processes, before the optimizer uses them."""

    def digest(self) -> str:
        """Return what identifies the training besides the config, such as a teacher's weights; "" for nothing."""
        return ""

    def finish(self, best: Path, context: Context) -> None:
        """Write results once the stage is trained; called in the first process alone, and possibly again on resuming.

        Args:
            best: folder of the stage's best checkpoint.
            context: the stage's.
        """
