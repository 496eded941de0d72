"""Checks before a training starts, also used by the doctor: the names in its config, and its data."""

from __future__ import annotations

import difflib
from pathlib import Path

from ppocr_slim.config.loading import locate
from ppocr_slim.config.schema import Config, ExportStage, Metric, Stage, TrainStage
from ppocr_slim.data.augment import check_names
from ppocr_slim.errors import SlimError, WrongKeyError
from ppocr_slim.models import MODELS, bind_model
from ppocr_slim.runtime.bundle import is_bundle, read_bundle
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.table import TASKS, task_class
from ppocr_slim.tasks.task import Data, Task
from ppocr_slim.text.language_model import LanguageModel


def check_config(config: Config) -> Config:
    """Check the names that the schema leaves to the tables of models, tasks and augmentations.

    Args:
        config: valid by the schema.

    Returns:
        The config with its Metric.

    Raises:
        SlimError: a name or value is wrong; the message names the file or override that sets it.
    """
    try:
        bind_model(config.architecture.name, config.architecture.args)
        task = task_class(config.architecture.name)
        _check_sections(config, task)
        check_names(config.train.augment, task.augmentations)
        if config.run.pretrained_layers and config.run.pretrained is None:
            raise WrongKeyError(
                "Global.pretrained_layers", "Global.pretrained must name the network that they are taken from"
            )
        for number, stage in enumerate(config.with_teachers().recipe):
            _check_stage(stage, f"Recipe.{number}", task)
        return config.model_copy(update={"metric": config.metric or Metric(name=task.metrics[0])})
    except WrongKeyError as error:
        raise SlimError(f"{locate(config, error.key)}: {error}") from error


def _check_stage(stage: Stage, where: str, task: type[Task]) -> None:
    if isinstance(stage, ExportStage) and stage.language_model:
        if task is not TASKS["rec"]:
            raise WrongKeyError(f"{where}.language_model", "only a recognizer can have a language model")
        LanguageModel.load(stage.language_model)  # now, not after days of training
    for place, entry in enumerate(stage.techniques if isinstance(stage, TrainStage) else ()):
        if entry.distill and entry.distill.teacher is None:
            problem = "no teacher: name one here or for all stages as Global.teacher, or take the distillation out"
            raise WrongKeyError(f"{where}.techniques.{place}.distill", problem)
        if entry.mutual and entry.mutual.peer:
            peer = entry.mutual.peer
            bind_model(peer.name, peer.args, f"{where}.techniques.{place}.mutual.peer")


def _check_sections(config: Config, task: type[Task]) -> None:
    """Raise WrongKeyError for a Loss, PostProcess or Metric of another task than the network's."""
    for section, given, allowed in (
        ("Loss", config.loss, (task.loss_name,)),
        ("PostProcess", config.post_process, (task.post_process,)),
        ("Metric", config.metric, task.metrics),
    ):
        if given is not None and given.name not in allowed:
            near = difflib.get_close_matches(given.name, allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose {' or '.join(allowed)}"
            name = config.architecture.name
            problem = f"{given.name!r} is not for {name}, a network of task {MODELS[name].task}; {hint}"
            raise WrongKeyError(f"{section}.name", problem)
    if config.train.crop is not None and task is not TASKS["det"]:
        raise WrongKeyError("Train.crop", f"{config.architecture.name} trains on whole text lines: leave it out")


def prepare_data(config: Config) -> Data:
    """Check the data of a config; every image is decoded.

    Args:
        config: as `check_config` returned it.

    Returns:
        The network's spec and the diagnoses of the data.

    Raises:
        SlimError: a label file, the dictionary or Global.pretrained cannot be used.
    """
    start = config.run.pretrained

    def starting_spec() -> Spec:
        if not start.is_dir():
            raise SlimError(f"Global.pretrained: there is no folder {start}; name a checkpoint, a bundle, or null")
        return folder_card(start).spec

    return task_class(config.architecture.name).prepare_data(config, starting_spec if start else None)


def folder_card(folder: Path) -> ModelCard:
    """Return the card of the network in a checkpoint folder or an exported bundle.

    Args:
        folder: of the checkpoint or bundle.

    Raises:
        SlimError: the folder is neither.
    """
    if is_bundle(folder):
        bundle = read_bundle(folder)
        return ModelCard.from_architecture(bundle.architecture, bundle.spec)
    if not folder.is_dir():
        raise SlimError(f"there is no folder {folder}: name a checkpoint or a bundle")
    return ModelCard.read(folder)
