"""Run what a config asks for: its stages in order, each resumable by itself."""

from __future__ import annotations

import fcntl
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config, ExportStage, Optimizer, Stage, TrainStage
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.verification import evenly_spaced
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.folders import recover_folder, replacing
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.state import name_parameters
from ppocr_slim.runtime.bundle import put_language
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.slim import build_techniques
from ppocr_slim.slim.quantize import freeze_quant_params
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.checks import check_config, diagnose
from ppocr_slim.tasks.table import task_class
from ppocr_slim.tasks.task import Data
from ppocr_slim.text.language_model import LanguageModel
from ppocr_slim.training.loop import BEST, LAST, Job, fit, is_trained
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.starting import (
    digest_of,
    load_starting_layers,
    load_starting_weights,
    read_starting_weights,
    require_same_network,
)

CONFIG_FILE = "config.yml"
LOCK_FILE = ".lock"
EXPORT_SAMPLES = 200  # on which an export must read as the checkpoint does
CALIBRATION_SAMPLES = 64  # of the training, that ranges are taken from, for INT8 of a float network


def run_recipe(config: Config) -> None:
    """Run every stage of a config; a run that was interrupted continues where it was.

    The stages' results lie in output_dir/<stage>: train/best and train/last (checkpoint folders), train/log.jsonl,
    train/curves, export (a bundle).

    Raises:
        SlimError: the config, the data or a stage's outcome are not right.
        training.loop.Stopped: a signal ended a training, which has saved.
    """
    config = check_config(config)
    processes = Processes()
    if processes.count != config.run.processes:
        raise SlimError(
            f"{processes.count} processes were started, Global.processes is {config.run.processes}: a run's steps and "
            f"rates depend on it; add -o Global.processes={processes.count}"
        )
    if not processes.is_first:
        logger.setLevel(logging.WARNING)  # the first process speaks for all
    folder = config.run.output_dir
    with locked(folder) if processes.is_first else nullcontext():
        require_same_experiment(config)
        data = diagnose(config)  # once for all stages: it decodes every image
        checkpoint: Path | None = None
        for stage, stage_folder in stage_folders(config.recipe, folder):
            if isinstance(stage, TrainStage):
                start = checkpoint or config.run.pretrained
                checkpoint = _train(stage, stage_folder, config, data, start, processes)
            elif processes.is_first:
                _export(stage, stage_folder, config, data, checkpoint)


@contextmanager
def locked(folder: Path):
    """Keep a run's folder to this process. SlimError if another one is at work in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK_FILE, "w", encoding="utf-8")
    except OSError as error:
        raise SlimError(f"cannot write into {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SlimError(f"another process is training in {folder}: wait for it, or stop it first") from error
        except OSError as error:
            raise SlimError(f"cannot lock {folder}: {error.strerror}") from error
        yield


def require_same_experiment(config: Config) -> None:
    """SlimError if the run's folder holds a checkpoint of a config that would give other results than this one."""
    folder = config.run.output_dir
    saved = folder / CONFIG_FILE
    if not saved.exists() or not any(folder.glob("*/last*")):
        return
    saved_config = load_config(saved)
    begun = _begun(saved_config)
    before, now = experiment_of(saved_config, begun), experiment_of(config, begun)
    if before != now:
        raise SlimError(
            f"{folder} holds a run whose {_first_difference(before, now)} is another: choose a new "
            "Global.output_dir, or remove the folder"
        )


def _begun(config: Config) -> int:
    """How many of the stages of a run's recipe have a checkpoint, or stand before one that has."""
    folders = [folder for _, folder in stage_folders(config.recipe, config.run.output_dir)]
    return max((number for number, folder in enumerate(folders, 1) if any(folder.glob("last*"))), default=0)


def experiment_of(config: Config, begun: int | None = None) -> Config:
    """The config without what cannot change what is trained: exports, and all stages but the first `begun`.

    `eval_every_steps` is left out, too: it says where best/ is looked for, not what is trained.
    """
    run = {"log_every_steps": 1, "eval_every_steps": 1, "save_every_steps": 1, "max_bad_fraction": 0.0}
    return config.model_copy(
        update={
            "run": config.run.model_copy(update=run),
            "train": config.train.model_copy(update={"workers": 1, "cache_mb": 0}),
            "eval": config.eval.model_copy(update={"batch_size": 1}),
            "recipe": [stage for stage in config.recipe[:begun] if isinstance(stage, TrainStage)],
        }
    )


def save_config(config: Config) -> None:
    """Write the resolved config into the run's folder, whole or not at all."""
    with replacing(config.run.output_dir / CONFIG_FILE) as new:
        dump_config(config, new)


def _first_difference(a: Config, b: Config) -> str:
    left, right = a.model_dump(by_alias=True), b.model_dump(by_alias=True)
    path: list[str] = []
    while isinstance(left, dict) and isinstance(right, dict):
        key = next((k for k in [*left, *right] if left.get(k) != right.get(k)), None)
        if key is None:
            break
        path.append(key)
        left, right = left.get(key), right.get(key)
    return ".".join(path)


def stage_folders(stages: list[Stage], folder: Path) -> Iterator[tuple[Stage, Path]]:
    """train, export; a stage that comes again is train_2, and so on."""
    counts: Counter = Counter()
    for stage in stages:
        counts[stage.stage] += 1
        number = counts[stage.stage]
        yield stage, folder / (stage.stage if number == 1 else f"{stage.stage}_{number}")


def _train(
    stage: TrainStage, folder: Path, config: Config, data: Data, start_folder: Path | None, processes: Processes
) -> Path:
    """Train from `start_folder`'s weights, or from random ones; gives the best checkpoint."""
    for title, diagnosis in (("training data", data.train), ("evaluation data", data.evaluation)):
        logger.info("%s", diagnosis.report(title))
        diagnosis.require_clean(config.run.max_bad_fraction)
    last = folder / LAST
    if processes.is_first:
        recover_folder(last)
    processes.wait()
    resumed = ModelCard.read(last) if last.exists() else None
    # What a stage started from may be gone when it resumes.
    start = read_starting_weights(start_folder) if start_folder and (start_folder.exists() or not resumed) else None
    # Of another network some layers may be taken; what comes from an earlier stage is this very network.
    layers = config.run.pretrained_layers if start_folder == config.run.pretrained else []
    card = _card(config, data.spec, resumed or (start.card if start and not layers else None))
    if start and not resumed and not layers:
        require_same_network(start, card)
    paddle.seed(config.run.seed)  # the initial weights are part of the experiment
    model = card.build("Architecture")
    if start and not resumed:
        if layers:
            load_starting_layers(model, start, card, layers)
        else:
            load_starting_weights(model, start, card)
    if processes.is_first:
        save_config(config)
    task = task_class(card.name)(card.spec, config.loss)
    val_samples = [checked.sample for checked in data.evaluation.samples]

    def score(network: nn.Layer) -> Any:
        mine = processes.share(val_samples)
        return task.scores(processes.gather(task.predict_and_score(network, mine, config.eval.batch_size)))

    rows = task.training_data(config, data.train, (processes.rank, processes.count))
    context = Context(
        folder=folder,
        card=card,
        task=task,
        calibration=rows.plain,
        score=score,
        augmented=bool(config.train.augment),
        seed=config.run.seed,
        is_first=processes.is_first,
        wait=processes.wait,
    )
    steps = build_techniques(stage.techniques)
    origin = {"start": digest_of(start.state)} if start else {}
    length = stage.length(len(rows))
    if resumed == card and is_trained(last, length, rows.digest, origin):  # without opening a teacher once more
        logger.info("%s is trained already (%d steps)", folder, length)
        return _finish(steps, folder / BEST, context)
    if not resumed:
        for step in steps:
            card = replace(card, transforms=[*card.transforms, *step.prepare(model, context)])
            context = replace(context, card=card)
        name_parameters(model)
    freeze_quant_params(model)
    for step in steps:
        step.attach(model, context)
    _log_cost(model, card, config)
    config = config.model_copy(update={"optimizer": _optimizer(stage, config.optimizer)})
    origin.update({step.name: step.digest() for step in steps if step.digest()})
    best = fit(Job(folder, config, length, model, card, task, rows, score, processes, steps, origin))
    return _finish(steps, best, context)


def _finish(steps: Sequence[Technique], best: Path, context: Context) -> Path:
    if context.is_first:
        for step in steps:
            step.finish(best, context)
    return best


def _card(config: Config, spec: Spec, origin: ModelCard | None) -> ModelCard:
    """The card of the config's network, with the structure that `origin`'s has."""
    name, args = config.architecture.name, dict(config.architecture.args)
    return ModelCard(name, args, spec, list(origin.transforms) if origin else [])


def _optimizer(stage: TrainStage, optimizer: Optimizer) -> Optimizer:
    """The optimizer's settings with what the stage says of its own."""
    own = {"lr": stage.lr, "warmup_steps": stage.warmup_steps}
    return optimizer.model_copy(update={key: value for key, value in own.items() if value is not None})


def _log_cost(model: nn.Layer, card: ModelCard, config: Config) -> None:
    shape = model.typical_input
    cost = measure_cost(model, shape)
    logger.info(
        "%s: %.2f M parameters (%.1f MB); an input of %s: %.0f M multiply-adds, %.1f MB of activations",
        card.name,
        cost.parameters / 1e6,
        cost.parameters * 4 / 1e6,
        "x".join(map(str, shape[1:])),
        cost.flops / 1e6,
        cost.activation_bytes / 1e6,
    )
    batch = config.train.batch_size
    logger.info("a batch of %d keeps at least %.0f MB of activations", batch, cost.activation_bytes * batch / 1e6)


def _export(stage: ExportStage, folder: Path, config: Config, data: Data, checkpoint: Path | None) -> None:
    checkpoint = checkpoint or config.run.pretrained
    if checkpoint is None:
        raise SlimError("Recipe: an export needs a train stage before it, or Global.pretrained")
    save_config(config)
    samples = [checked.sample for checked in data.evaluation.samples]
    training = [checked.sample for checked in data.train.samples]
    report = export_bundle(
        checkpoint,
        folder,
        stage.formats,
        stage.budget_mb,
        evenly_spaced(samples, EXPORT_SAMPLES),
        evenly_spaced(training, CALIBRATION_SAMPLES),
        stage.int8_weight_bits,
    )
    if stage.language_model:
        put_language(folder, LanguageModel.load(stage.language_model))
    logger.info("%s", report)
