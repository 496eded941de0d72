"""Knowledge distillation from a trained teacher (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.schema import Distill, DistillLoss
from ppocr_slim.data.lines import Batch
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec, Spec
from ppocr_slim.slim import losses
from ppocr_slim.slim.teachers import (
    CachedTeacher,
    PlainTeacher,
    Teacher,
    TeacherOutput,
    line_widths,
    open_plain_teacher,
    open_teacher,
)
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.task import Outputs, Task

CACHE = "teacher"  # folder of a stage for the cached outputs of a teacher
PROBE_WIDTH = 64  # pixels of an empty image that is run to count the channels of the features

Loss = Callable[["Distillation", DistillLoss, Outputs, TeacherOutput, Batch], paddle.Tensor]


class Distillation(Technique):
    """Adds the distillation losses that the config names to the task's own loss."""

    name = "teacher"

    def __init__(self, settings: Distill):
        self.settings = settings
        self.supervised_weight = settings.supervised_weight
        self.adapter: nn.Layer
        self.task: Task
        self._teacher: Teacher | CachedTeacher | PlainTeacher

    @property
    def _wants_features(self) -> bool:
        return any(loss.name == "feature_mse" for loss in self.settings.losses)

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Open the teacher.

        Args:
            model: the student.
            context: the stage's.

        Raises:
            SlimError: the teacher cannot be opened or does not fit the student, a loss is for another task, or `cache`
                is set where outputs cannot be cached.
        """
        spec, self.task = context.task.spec, context.task
        self._check(spec, context.augmented)
        if not isinstance(spec, RecSpec):
            self._teacher = open_plain_teacher(self.settings.teacher, spec)
            return
        teacher = open_teacher(self.settings.teacher, spec.classes, spec.height, self._wants_features)
        self._teacher = CachedTeacher(teacher, context.folder / CACHE) if self.settings.cache else teacher
        if self._wants_features:
            probe = np.zeros((1, 3, spec.height, PROBE_WIDTH), np.float32)
            features = teacher(probe).features
            assert features is not None
            paddle.seed(context.seed)  # every process must have the same adapter
            self.adapter = nn.Linear(_feature_channels(model, probe), features.shape[2])

    def _check(self, spec: Spec, augmented: bool) -> None:
        if self.settings.cache and augmented:
            raise SlimError(
                "distill: cache keeps the teacher's outputs for text lines that come again, but Train.augment changes "
                "every line: set Train.augment to [] or cache to false"
            )
        for loss in self.settings.losses:
            task = TASK_OF.get(loss.name, RecSpec.task)
            if task != spec.task:
                raise SlimError(
                    f"distill: the loss {loss.name} is for networks of task {task}, but this network is of task "
                    f"{spec.task}"
                )
        if self.settings.cache and not isinstance(spec, RecSpec):
            raise SlimError(
                f"distill: cache keeps the outputs for text lines, but this network is of task {spec.task}: set cache "
                "to false"
            )

    def extras(self) -> dict[str, nn.Layer]:
        """Return the linear layer from the student's features to the teacher's, where features are compared."""
        return {"adapter": self.adapter} if self._wants_features else {}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return the config's losses on a batch, weighted: "distill_<name>"."""
        teacher = self._teacher(batch.image)
        return {
            f"distill_{loss.name}": LOSSES[loss.name](self, loss, outputs, teacher, batch) * loss.weight
            for loss in self.settings.losses
        }

    def digest(self) -> str:
        """Return the teacher's digest, once it is open."""
        return self._teacher.digest

    def feature_loss(self, features: paddle.Tensor, teacher: TeacherOutput, batch: Batch) -> paddle.Tensor:
        """Return the `feature_mse` of the student's features at the time steps that are not padding.

        Args:
            features: the student's, [N, T, C].
            teacher: the teacher's output for the batch.
            batch: the text lines.
        """
        assert teacher.features is not None
        time_steps = time_steps_of_lines(batch)
        real = np.flatnonzero(np.arange(features.shape[1]) < time_steps[:, None])
        own = features.reshape([-1, features.shape[2]]).gather(paddle.to_tensor(real))
        return losses.feature_mse(self.adapter(own), teacher.features.reshape(-1, teacher.features.shape[2])[real])

    def pseudo_label_loss(self, logits: paddle.Tensor, teacher: TeacherOutput, batch: Batch) -> paddle.Tensor:
        """Return the task's own loss with the texts that the teacher reads as labels.

        Lines where the teacher reads nothing add 0 to the mean.

        Args:
            logits: the student's, [N, T, K].
            teacher: the teacher's output for the batch.
            batch: the text lines.
        """
        labels, lengths = losses.pseudo_labels(teacher.logits)
        lines = np.flatnonzero(lengths)
        if not lines.size:
            return logits.sum() * 0
        if lines.size < len(lengths):
            logits = logits.gather(paddle.to_tensor(lines))
        labelled = replace(batch, labels=labels[lines], lengths=lengths[lines])
        total = sum(self.task.loss({"logits": logits}, labelled).values(), paddle.zeros([]))
        return total * (lines.size / len(lengths))


def _feature_channels(model: nn.Layer, probe: np.ndarray) -> int:
    training = model.training
    model.eval()
    with paddle.no_grad():
        channels = model.outputs(paddle.to_tensor(probe))["features"].shape[2]
    if training:
        model.train()
    return channels


def time_steps_of_lines(batch: Batch) -> np.ndarray:
    """Return the time steps of each text line without its padding, [N]."""
    return np.array([time_steps_for_width(int(width)) for width in line_widths(batch.image)])


TASK_OF = {"map_distillation": DetSpec.task, "kl_div": ClsSpec.task}  # the other losses are for recognizers

# Name in a config -> the loss
LOSSES: dict[str, Loss] = {
    "frames": lambda technique, loss, outputs, teacher, batch: losses.frame_kl_div(
        outputs["logits"], teacher.logits, loss.temperature
    ),
    "mean_logits": lambda technique, loss, outputs, teacher, batch: losses.mean_logits_kl_div(
        outputs["logits"], teacher.logits, time_steps_of_lines(batch), loss.temperature
    ),
    "aligned": lambda technique, loss, outputs, teacher, batch: losses.aligned_kl_div(
        outputs["logits"], teacher.logits, batch.labels, batch.lengths, loss.temperature
    ),
    "dkd": lambda technique, loss, outputs, teacher, batch: losses.dkd(
        outputs["logits"], teacher.logits, batch.labels, batch.lengths, loss.temperature, loss.beta
    ),
    "feature_mse": lambda technique, loss, outputs, teacher, batch: technique.feature_loss(
        outputs["features"], teacher, batch
    ),
    "pseudo_labels": lambda technique, loss, outputs, teacher, batch: technique.pseudo_label_loss(
        outputs["logits"], teacher, batch
    ),
    "map_distillation": lambda technique, loss, outputs, teacher, batch: losses.map_distillation(
        outputs["maps"][:, :1], teacher.logits
    ),
    "kl_div": lambda technique, loss, outputs, teacher, batch: losses.kl_div(
        outputs["logits"], teacher.logits, loss.temperature
    ),
}
