"""Learning from a trained teacher (Hinton et al. 2015, arXiv:1503.02531)."""

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
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec
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

CACHE = "teacher"  # folder of a stage where a teacher's answers are kept
PROBE_WIDTH = 64  # pixels of an empty image that shows how many channels the student's features have

Loss = Callable[["Distillation", DistillLoss, Outputs, TeacherOutput, Batch], paddle.Tensor]


class Distillation(Technique):
    """Adds what the student loses to its teacher to the task's own loss, in the ways that the config names."""

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
        """Open the teacher. Raises SlimError where it does not fit, or augmented rows were to be cached."""
        if self.settings.cache and context.augmented:
            raise SlimError(
                "distill: cache keeps a teacher's answers for rows that come again; with Train.augment none does: "
                "set Train.augment to [] or cache to false"
            )
        spec, self.task = context.task.spec, context.task
        for loss in self.settings.losses:
            task = TASK_OF.get(loss.name, RecSpec.task)
            if task != spec.task:
                raise SlimError(
                    f"distill: the loss {loss.name} is for networks of task {task}, this one's is {spec.task}"
                )
        if not isinstance(spec, RecSpec):
            if self.settings.cache:
                raise SlimError("distill: cache keeps answers for rows; a network of another task has none")
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

    def extras(self) -> dict[str, nn.Layer]:
        """The layer that brings the student's features to the teacher's, where features are compared."""
        return {"adapter": self.adapter} if self._wants_features else {}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """The config's losses on a batch, weighted: "distill_<name>"."""
        answer = self._teacher(batch.image)
        return {
            f"distill_{loss.name}": LOSSES[loss.name](self, loss, outputs, answer, batch) * loss.weight
            for loss in self.settings.losses
        }

    def digest(self) -> str:
        """The teacher's, once it is attached."""
        return self._teacher.digest

    def adapted(self, features: paddle.Tensor, answer: TeacherOutput, batch: Batch) -> paddle.Tensor:
        """The loss of the student's features [N, T, C] at the steps that are not padding."""
        assert answer.features is not None
        steps = time_steps_of_lines(batch)
        real = np.flatnonzero(np.arange(features.shape[1]) < steps[:, None])
        own = features.reshape([-1, features.shape[2]]).gather(paddle.to_tensor(real))
        return losses.feature_mse(self.adapter(own), answer.features.reshape(-1, answer.features.shape[2])[real])

    def read(self, logits: paddle.Tensor, answer: TeacherOutput, batch: Batch) -> paddle.Tensor:
        """The task's own loss with the teacher's readings for labels; rows where it reads nothing count nothing."""
        labels, lengths = losses.pseudo_labels(answer.logits)
        rows = np.flatnonzero(lengths)
        if not rows.size:
            return logits.sum() * 0
        if rows.size < len(lengths):
            logits = logits.gather(paddle.to_tensor(rows))
        read = replace(batch, labels=labels[rows], lengths=lengths[rows])
        return sum(self.task.loss({"logits": logits}, read).values(), paddle.zeros([])) * (rows.size / len(lengths))


def _feature_channels(model: nn.Layer, probe: np.ndarray) -> int:
    training = model.training
    model.eval()
    with paddle.no_grad():
        channels = model.outputs(paddle.to_tensor(probe))["features"].shape[2]
    if training:
        model.train()
    return channels


def time_steps_of_lines(batch: Batch) -> np.ndarray:
    """Output steps of each row, without its padding."""
    return np.array([time_steps_for_width(int(width)) for width in line_widths(batch.image)])


TASK_OF = {"map_distillation": DetSpec.task, "kl_div": ClsSpec.task}  # the other losses compare letters

# What the names in a config stand for
LOSSES: dict[str, Loss] = {
    "frames": lambda step, loss, outputs, answer, batch: losses.frames(
        outputs["logits"], answer.logits, loss.temperature
    ),
    "mean_logits": lambda step, loss, outputs, answer, batch: losses.mean_logits(
        outputs["logits"], answer.logits, time_steps_of_lines(batch), loss.temperature
    ),
    "aligned": lambda step, loss, outputs, answer, batch: losses.aligned(
        outputs["logits"], answer.logits, batch.labels, batch.lengths, loss.temperature
    ),
    "dkd": lambda step, loss, outputs, answer, batch: losses.dkd(
        outputs["logits"], answer.logits, batch.labels, batch.lengths, loss.temperature, loss.beta
    ),
    "feature_mse": lambda step, loss, outputs, answer, batch: step.adapted(outputs["features"], answer, batch),
    "pseudo_labels": lambda step, loss, outputs, answer, batch: step.read(outputs["logits"], answer, batch),
    "map_distillation": lambda step, loss, outputs, answer, batch: losses.map_distillation(
        outputs["maps"][:, :1], answer.logits
    ),
    "kl_div": lambda step, loss, outputs, answer, batch: losses.kl_div(
        outputs["logits"], answer.logits, loss.temperature
    ),
}
