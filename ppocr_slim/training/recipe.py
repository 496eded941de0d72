"""Run what a config asks for: its stages in order, each resumable by itself."""

from __future__ import annotations

import fcntl
import logging
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config, ExportStage, ReportStage, TrainStage
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.verification import evenly_spaced
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.reports.provenance import shown_command
from ppocr_slim.reports.records import StageTable, read_record
from ppocr_slim.runtime.bundle import LANGUAGE, put_language
from ppocr_slim.tasks.checks import check_config, prepare_data
from ppocr_slim.tasks.task import Data
from ppocr_slim.text.language_model import LanguageModel
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.stage import CONFIG_FILE, save_config, train_stage
from ppocr_slim.training.stage_table import stage_table

LOCK_FILE = ".lock"
EXPORT_SAMPLES = 200  # on which an export must read as the checkpoint does
CALIBRATION_SAMPLES = 64  # of the training, that ranges are taken from, for INT8 of a float network


def run_recipe(config: Config) -> None:
    """Run every stage of a config; a run that was interrupted continues where it was.

    The stages' results lie in output_dir/<stage>: train/best and train/last (checkpoint folders), train/log.jsonl,
    train/curves, export (a bundle), report/stages.md.

    Raises:
        SlimError: the config, the data or a stage's outcome are not right.
        training.loop.Stopped: a signal ended a training, which has saved.
    """
    config = check_config(config)
    processes = Processes()
    if config.run.processes not in (None, processes.count):
        raise SlimError(
            f"{processes.count} processes were started, Global.processes is {config.run.processes}: a run's steps and "
            f"rates depend on it; add -o Global.processes={processes.count}"
        )
    if config.step_batch % processes.count:
        raise SlimError(
            f"{processes.count} processes were started, which cannot share Train.batch_size {config.step_batch}: start "
            "a number that divides it, or set Global.processes, with which each has a batch of its own"
        )
    if not processes.is_first:
        logger.setLevel(logging.WARNING)  # the first process speaks for all
    folder = config.run.output_dir
    with locked(folder) if processes.is_first else nullcontext():
        require_same_experiment(config)
        data = prepare_data(config)  # once for all stages: it decodes every image
        if config.training_stages:
            _require_clean(data, config.run.max_bad_fraction)
        checkpoint: Path | None = None
        for stage, stage_folder in config.with_teachers().stage_folders():
            if isinstance(stage, TrainStage):
                start = checkpoint or config.run.pretrained
                checkpoint = train_stage(stage, stage_folder, config, data, start, processes)
            elif not processes.is_first:
                continue
            elif isinstance(stage, ExportStage):
                _export(stage, stage_folder, config, data, checkpoint)
            else:
                _report(stage, stage_folder, config, data)


def _require_clean(data: Data, max_bad_fraction: float) -> None:
    """Log what is wrong with the data.

    Raises:
        SlimError: it is more than `max_bad_fraction` of the samples.
    """
    for title, diagnosis in (("training data", data.train), ("evaluation data", data.evaluation)):
        logger.info("%s", diagnosis.report(title))
        diagnosis.require_clean(max_bad_fraction)


@contextmanager
def locked(folder: Path):
    """Keep a run's folder to this process.

    Raises:
        SlimError: another one is at work in it.
    """
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
    """Refuse a config that would give other results than the run that stands in its folder.

    Raises:
        SlimError: the run's folder holds a checkpoint of a config that would give other results than this one.
    """
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
    """Return how many of the stages of a run's recipe have a checkpoint, or stand before one that has."""
    folders = [folder for _, folder in config.stage_folders()]
    return max((number for number, folder in enumerate(folders, 1) if any(folder.glob("last*"))), default=0)


def experiment_of(config: Config, begun: int | None = None) -> Config:
    """Return the config without what cannot change what is trained: exports, and all stages but the first `begun`.

    `eval_every_steps` is left out, too: it says where best/ is looked for, not what is trained.
    """
    run = {"log_every_steps": 1, "eval_every_steps": 1, "save_every_steps": 1, "max_bad_fraction": 0.0}
    config = config.with_shared_batch().with_teachers()
    return config.model_copy(
        update={
            "run": config.run.model_copy(update=run),
            "train": config.train.model_copy(update={"workers": 1, "cache_mb": 0}),
            "eval": config.eval.model_copy(update={"batch_size": 1}),
            "recipe": [stage for stage in config.recipe[:begun] if isinstance(stage, TrainStage)],
        }
    )


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


def _report(stage: ReportStage, folder: Path, config: Config, data: Data) -> None:
    from ppocr_slim.reports.stages import text_table, write_stages  # loads matplotlib, which no other stage needs

    results = stage_table(config, folder, data, shown_command(), stage.rounds)
    written = write_stages(folder / "stages", results)
    record = read_record(StageTable, results, "the table of stages")
    logger.info("%s\nwrote %s and %s", text_table(record), written, written.with_suffix(".png"))


def _export(stage: ExportStage, folder: Path, config: Config, data: Data, checkpoint: Path | None) -> None:
    checkpoint = checkpoint or config.run.pretrained
    if checkpoint is None:
        raise SlimError("Recipe: an export needs a train stage before it, or Global.pretrained")
    save_config(config)
    samples = [checked.sample for checked in data.evaluation.samples]
    training = [checked.sample for checked in data.train.samples]
    # The one that somebody has put into the bundle since the last run stays
    language_model = stage.language_model or (folder / LANGUAGE if (folder / LANGUAGE).is_file() else None)
    language = LanguageModel.load(language_model) if language_model else None
    report = export_bundle(
        checkpoint,
        folder,
        stage.formats,
        stage.budget_mb,
        evenly_spaced(samples, EXPORT_SAMPLES),
        evenly_spaced(training, CALIBRATION_SAMPLES),
        stage.int8_weight_bits,
        stage.int8_activations,
        replaceable=[LANGUAGE],
    )
    if language:
        put_language(folder, language)
    logger.info("%s", report)
