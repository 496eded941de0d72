"""What must be right before a training starts: the names in its config, and its data. The doctor asks the same."""

from __future__ import annotations

import difflib
from pathlib import Path

from ppocr_slim.config.loading import locate
from ppocr_slim.config.schema import Config, ExportStage, Metric, TrainStage
from ppocr_slim.data.augment import check_names
from ppocr_slim.errors import SlimError, WrongKeyError
from ppocr_slim.models import MODELS, bind_model
from ppocr_slim.runtime.bundle import CARD as BUNDLE_CARD
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.table import TASKS, task_class
from ppocr_slim.tasks.task import Data, Task
from ppocr_slim.text.language_model import LanguageModel


def check_config(config: Config) -> Config:
    """Check what the schema leaves to the tables of models, tasks and augmentations; the config with its Metric.

    Raises SlimError naming the file or override that has the wrong name or value.
    """
    try:
        bind_model(config.architecture.name, config.architecture.args)
        task = task_class(config.architecture.name)
        _check_sections(config, task)
        check_names(config.train.augment, task.augmentations)
        if config.run.pretrained_layers and config.run.pretrained is None:
            raise WrongKeyError("Global.pretrained_layers", "of which network? name it in Global.pretrained")
        for number, stage in enumerate(config.recipe):
            if isinstance(stage, ExportStage) and stage.language_model:
                if task is not TASKS["rec"]:
                    raise WrongKeyError(f"Recipe.{number}.language_model", "a language model belongs to a recognizer")
                LanguageModel.load(stage.language_model)  # now, not after days of training
            for place, entry in enumerate(stage.techniques if isinstance(stage, TrainStage) else ()):
                if entry.mutual and entry.mutual.peer:
                    where = f"Recipe.{number}.techniques.{place}.mutual.peer"
                    bind_model(entry.mutual.peer.name, entry.mutual.peer.args, where)
        return config.model_copy(update={"metric": config.metric or Metric(name=task.metrics[0])})
    except WrongKeyError as error:
        raise SlimError(f"{locate(config, error.key)}: {error}") from error


def _check_sections(config: Config, task: type[Task]) -> None:
    """WrongKeyError for a Loss, PostProcess or Metric that belongs to another task than the network."""
    for section, given, allowed in (
        ("Loss", config.loss, (task.loss_name,)),
        ("PostProcess", config.post_process, (task.post_process,)),
        ("Metric", config.metric, task.metrics),
    ):
        if given is not None and given.name not in allowed:
            near = difflib.get_close_matches(given.name, allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(allowed)}"
            name = config.architecture.name
            problem = f"{given.name!r} is not for {name}, a network of task {MODELS[name].task}; {hint}"
            raise WrongKeyError(f"{section}.name", problem)
    if config.train.crop is not None and task is not TASKS["det"]:
        raise WrongKeyError("Train.crop", f"{config.architecture.name} trains on whole rows: leave it out")


def prepare_data(config: Config) -> Data:
    """Check the data of a config that `check_config` returned; every image is decoded.

    Raises:
        SlimError: a label file, the dictionary or Global.pretrained cannot be used.
    """
    start = config.run.pretrained
    return task_class(config.architecture.name).prepare_data(config, start and (lambda: folder_card(start).spec))


def folder_card(folder: Path) -> ModelCard:
    """What network lies in a checkpoint folder or an exported bundle. SlimError if `folder` is neither."""
    if is_bundle(folder):
        bundle = read_bundle(folder)
        return ModelCard.from_architecture(bundle.architecture, bundle.spec)
    if not folder.is_dir():
        raise SlimError(f"Global.pretrained: there is no folder {folder}; name a checkpoint, a bundle, or null")
    return ModelCard.read(folder)


def is_bundle(folder: Path) -> bool:
    """Whether an exported bundle lies in `folder`, and not a checkpoint."""
    return (folder / BUNDLE_CARD).is_file()
