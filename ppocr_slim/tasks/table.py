"""The table of tasks, by their names in models, checkpoints and bundles."""

from __future__ import annotations

from ppocr_slim.models import MODELS
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.tasks.detection import DetectionTask
from ppocr_slim.tasks.direction import DirectionTask
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.tasks.task import Task

TASKS: dict[str, type[Task]] = {"det": DetectionTask, "cls": DirectionTask, "rec": RecognitionTask}


def task_class(model: str) -> type[Task]:
    """Return the task of a model in `models.MODELS`."""
    return TASKS[MODELS[model].task]


def task_for(spec: Spec) -> Task:
    """Build the task of a network with this spec."""
    return TASKS[spec.task](spec)
