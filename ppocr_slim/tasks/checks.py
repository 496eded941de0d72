"""What must be right before a training starts: the names in its config, and its data. The doctor asks the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple

from ppocr_slim.config.loading import locate
from ppocr_slim.config.schema import Config, TrainStage
from ppocr_slim.data.augment import check_names
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.doctor import Diagnosis, config_charset, examine_config, steps_for_height
from ppocr_slim.errors import SlimError, WrongKeyError
from ppocr_slim.models import bind_model
from ppocr_slim.runtime.bundle import CARD as BUNDLE_CARD
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.tasks.checkpoint import ModelCard


def check_config(config: Config) -> inspect.BoundArguments:
    """Check what the schema leaves to the tables of augmentations and models; gives the model's arguments.

    Raises SlimError naming the file or override that has the wrong name or value.
    """
    try:
        check_names(config.train.augment)
        for number, stage in enumerate(config.recipe):
            for place, step in enumerate(stage.steps if isinstance(stage, TrainStage) else ()):
                if step.mutual and step.mutual.peer:
                    where = f"Recipe.{number}.steps.{place}.mutual.peer"
                    bind_model(step.mutual.peer.name, step.mutual.peer.args, where)
        return bind_model(config.architecture.name, config.architecture.args)
    except WrongKeyError as error:
        raise SlimError(f"{locate(config, error.key)}: {error}") from error


class Data(NamedTuple):
    """The characters that a config's training uses, and the diagnoses of its training and evaluation data."""

    charset: Charset
    train: Diagnosis
    evaluation: Diagnosis


def diagnose(config: Config) -> Data:
    """What a config's training will use; every image is decoded.

    The time steps are those of the config's own model. Raises SlimError where the config, a label file, the dictionary
    or Global.pretrained cannot be used.
    """
    steps = steps_for_height(check_config(config).arguments["height"])
    charset = choose_charset(config)
    return Data(charset, *examine_config(config, charset, steps))


def choose_charset(config: Config) -> Charset:
    """The dictionary that the config names; else that of Global.pretrained if it covers the labels; else theirs."""
    charset = config_charset(config)
    if config.run.character_dict_path is not None or config.run.pretrained is None:
        return charset
    known = folder_card(config.run.pretrained).charset
    return known if set(charset.characters) <= set(known.characters) else charset


def folder_card(folder: Path) -> ModelCard:
    """What network lies in a checkpoint folder or an exported bundle. SlimError if `folder` is neither."""
    if is_bundle(folder):
        bundle = read_bundle(folder)
        return ModelCard.from_architecture(bundle.architecture, Charset(bundle.characters), bundle.height)
    if not folder.is_dir():
        raise SlimError(f"Global.pretrained: there is no folder {folder}; name a checkpoint, a bundle, or null")
    return ModelCard.read(folder)


def is_bundle(folder: Path) -> bool:
    """Whether an exported bundle lies in `folder`, and not a checkpoint."""
    return (folder / BUNDLE_CARD).is_file()
