"""Run what a config asks for: its stages in order, each resumable by itself."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config, ExportStage, Stage, TrainStage
from ppocr_slim.data.augment import check_names
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.doctor import Diagnosis, config_charset, examine_config
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.data.rows import TrainingRows
from ppocr_slim.errors import SlimError
from ppocr_slim.export.recognizer import export_recognizer
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.models import bind_model, build_model
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.crnn import steps_for_width
from ppocr_slim.models.state import model_state, name_parameters
from ppocr_slim.runtime.bundle import CARD as BUNDLE_CARD
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, load_weights, read_arrays
from ppocr_slim.tasks.evaluation import evaluate
from ppocr_slim.tasks.metrics import Scores, score_lines
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.training.loop import fit
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.runlog import logger

CONFIG_FILE = "config.yml"
EXPORT_ROWS = 32  # rows on which an export must read as the checkpoint does
TYPICAL_ASPECT = 15  # width over height of an address row, for the FLOPs that are printed


class StartingWeights(NamedTuple):
    """What training starts from: named arrays, the characters of its head, and where they came from."""

    state: Dict[str, np.ndarray]
    charset: Charset
    where: Path


def run_recipe(config: Config) -> None:
    """Run every stage of a config; a run that was interrupted continues where it was.

    The stages' results lie in output_dir/<stage>: train/best and train/last (checkpoint folders), train/log.jsonl,
    train/curves, export (a bundle).

    Raises:
        SlimError: the config, the data or a stage's outcome are not right.
        training.loop.Stopped: a signal ended a training, which has saved.
    """
    check_names(config.train.augment)
    bind_model(config.architecture.name, config.architecture.args)
    processes = Processes()
    if processes.is_first:
        claim_folder(config)
    else:
        logger.setLevel(logging.WARNING)  # the first process speaks for all
    folder = config.run.output_dir
    checkpoint: Optional[Path] = None
    for stage, stage_folder in _stage_folders(config.recipe, folder):
        if isinstance(stage, TrainStage):
            checkpoint = _train(stage, stage_folder, config, checkpoint or config.run.pretrained, processes)
        elif processes.is_first:
            _export(stage, stage_folder, config, checkpoint)


def claim_folder(config: Config) -> Path:
    """The run's folder, with the resolved config in it. SlimError if another config's run lies there."""
    folder = config.run.output_dir
    path = folder / CONFIG_FILE
    if path.exists():
        if load_config(path) != config:
            key = _first_difference(load_config(path), config)
            raise SlimError(
                f"{folder} holds a run whose {key} is another: choose a new Global.output_dir, or remove the folder"
            )
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        dump_config(config, new)
        new.replace(path)  # a kill in between must not leave half a config that nothing can continue from
    except OSError as error:
        raise SlimError(f"cannot write {path}: {error.strerror}") from error
    return folder


def _first_difference(a: Config, b: Config) -> str:
    left, right = a.model_dump(by_alias=True), b.model_dump(by_alias=True)
    path: List[str] = []
    while isinstance(left, dict) and isinstance(right, dict):
        key = next((k for k in [*left, *right] if left.get(k) != right.get(k)), None)
        if key is None:
            break
        path.append(key)
        left, right = left.get(key), right.get(key)
    return ".".join(path)


def _stage_folders(stages: List[Stage], folder: Path) -> Iterator[Tuple[Stage, Path]]:
    """train, export; a stage that comes again is train_2, and so on."""
    counts: Counter = Counter()
    for stage in stages:
        counts[stage.stage] += 1
        number = counts[stage.stage]
        yield stage, folder / (stage.stage if number == 1 else f"{stage.stage}_{number}")


def _train(stage: TrainStage, folder: Path, config: Config, start_folder: Optional[Path], processes: Processes) -> Path:
    """Train from `start_folder`'s weights, or from random ones; gives the best checkpoint."""
    start = read_starting_weights(start_folder) if start_folder else None
    height = bind_model(config.architecture.name, config.architecture.args).arguments["height"]
    charset = choose_charset(config, start)
    train, val = examine_data(config, charset)
    for title, diagnosis in (("training data", train), ("evaluation data", val)):
        logger.info("%s", diagnosis.report(title))
        diagnosis.require_clean(config.run.max_bad_fraction)
    val_samples = [checked.sample for checked in val.samples]
    paddle.seed(config.run.seed)  # the initial weights are part of the experiment
    model = build_model(config.architecture.name, config.architecture.args, len(charset.classes))
    name_parameters(model)
    shape = [1, 3, height, TYPICAL_ASPECT * height]
    cost = measure_cost(model, shape)
    logger.info(
        "%s: %.2f M parameters (%.1f MB); %s: %.0f M multiply-adds, %.1f MB of activations, %.0f MB a batch of %d",
        config.architecture.name,
        cost.parameters / 1e6,
        cost.parameters * 4 / 1e6,
        "x".join(map(str, shape)),
        cost.flops / 1e6,
        cost.activation_bytes / 1e6,
        cost.activation_bytes * config.train.batch_size / 1e6,
        config.train.batch_size,
    )
    logger.info(
        "%d characters, %d training rows, %d to evaluate",
        len(charset.characters),
        len(train.samples),
        len(val.samples),
    )
    if start:
        load_starting_weights(model, start, charset)
    task = RecognitionTask(charset, height)
    rows = TrainingRows(
        [checked.sample for checked in train.samples],
        [checked.ratio for checked in train.samples],
        charset,
        height,
        steps_for_width,
        config.train.batch_size,
        config.train.augment,
        config.run.seed,
        config.train.workers,
        part=(processes.rank, processes.count),
    )
    card = ModelCard(config.architecture.name, dict(config.architecture.args), charset, height)

    def score(network: nn.Layer) -> Scores:
        mine = processes.share(val_samples)
        lines = evaluate(task.recognizer(network), mine, config.eval.batch_size).lines if mine else ()
        lines = processes.gather([(line.reference, line.reading) for line in lines])
        return score_lines(*zip(*lines))

    return fit(folder, config, stage.epochs, model, card, task, rows, score, processes)


def _export(stage: ExportStage, folder: Path, config: Config, checkpoint: Optional[Path]) -> None:
    checkpoint = checkpoint or config.run.pretrained
    if checkpoint is None:
        raise SlimError("Recipe: an export needs a train stage before it, or Global.pretrained")
    samples = [
        sample for source in config.eval.label_files for sample in read_label_file(source.path, source.image_root)[0]
    ]
    chosen = np.linspace(0, len(samples) - 1, min(EXPORT_ROWS, len(samples))).astype(int)
    report = export_recognizer(checkpoint, folder, stage.formats, stage.budget_mb, [samples[index] for index in chosen])
    logger.info("%s", report)


def read_starting_weights(folder: Path) -> StartingWeights:
    """The weights of a checkpoint folder or of an exported bundle. SlimError if `folder` is neither."""
    if (folder / BUNDLE_CARD).is_file():
        return StartingWeights(read_bundle_weights(folder), Charset(read_bundle(folder).characters), folder)
    if not folder.is_dir():
        raise SlimError(f"Global.pretrained: there is no folder {folder}; name a checkpoint, a bundle, or null")
    return StartingWeights(read_arrays(folder / WEIGHTS), ModelCard.read(folder).charset, folder)


def load_starting_weights(model: nn.Layer, start: StartingWeights, charset: Charset) -> None:
    """Set the model's weights; the head's rows go by character, so that another dictionary keeps what it shares.

    Raises SlimError where any other name or shape differs.
    """
    state = dict(start.state)
    if charset != start.charset:
        old = {character: index for index, character in enumerate(start.charset.classes)}
        shared = [(new, old[c]) for new, c in enumerate(charset.classes) if c in old]
        targets, sources = map(list, zip(*shared))
        for name, tensor in model_state(model).items():
            if name.startswith("head.") and name in state:
                fresh = tensor.numpy().copy()
                fresh[..., targets] = state[name][..., sources]
                state[name] = fresh
        logger.info("%d of %d characters start untrained", len(charset.classes) - len(shared), len(charset.characters))
    load_weights(model, state, start.where)
    logger.info("starting from the weights of %s", start.where)


def choose_charset(config: Config, start: Optional[StartingWeights]) -> Charset:
    """The dictionary that the config names; else that of the starting weights if it covers the labels; else theirs."""
    charset = config_charset(config)
    if config.run.character_dict_path is None and start and set(charset.characters) <= set(start.charset.characters):
        return start.charset
    return charset


def examine_data(config: Config, charset: Charset) -> Tuple[Diagnosis, Diagnosis]:
    """Diagnose training and evaluation data with the model's own number of output steps."""
    model_height = bind_model(config.architecture.name, config.architecture.args).arguments["height"]

    def steps(width: int, height: int) -> int:
        return steps_for_width(max(1, round(width * model_height / height)))

    return examine_config(config, charset, steps, progress=sys.stderr.isatty())
