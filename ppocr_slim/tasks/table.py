"""The tasks by the names that models, checkpoints and bundles give them."""

from __future__ import annotations

from ppocr_slim.models import MODELS
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.tasks.detection import DetectionTask
from ppocr_slim.tasks.direction import DirectionTask
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.tasks.task import Task

TASKS: dict[str, type[Task]] = {"det": DetectionTask, "cls": DirectionTask, "rec": RecognitionTask}


def task_class(model: str) -> type[Task]:
    """The task that a model of `models.MODELS` is for."""
    return TASKS[MODELS[model].task]


def task_for(spec: Spec) -> Task:
    """The task of a network that takes and gives what `spec` says."""
    return TASKS[spec.task](spec)
