"""The table of a recipe's stages: what the teacher, the start and each stage's network weigh, cost and score."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Config, ExportStage, TrainStage
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import BEST
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.runtime.bundle import INT8
from ppocr_slim.tasks.checks import folder_card
from ppocr_slim.tasks.task import Data
from ppocr_slim.training.footprint import measure, measure_file, measure_stage, score_file, time_variants
from ppocr_slim.training.runlog import read_log, training_progress

PACKAGES = ("paddlepaddle", "onnxruntime", "numpy")
TITLES = {
    "distill": "teacher",
    "fpgm": "FPGM",
    "pact": "PACT",
    "lsq": "LSQ+",
    "share": "weight sharing",
    "mutual": "mutual learning",
}


class _Network(NamedTuple):
    """A network of a recipe.

    Attributes:
        title: in the table.
        source: folder of a checkpoint or bundle, whose card says how it reads.
        measure: (folder for the exported file) -> its footprint.
        stage: folder of the training stage that made it.
    """

    title: str
    source: Path
    measure: Callable[[Path], dict[str, Any]]
    stage: Path | None = None


def stage_table(config: Config, folder: Path, data: Data, command: str, rounds: int) -> dict[str, Any]:
    """Measure the networks of a recipe whose stages have run.

    Args:
        config: of the run, with its Metric.
        folder: for the exported files; earlier ones there are replaced.
        data: of the config.
        command: the command line, for the report.
        rounds: timing rounds, in which all networks take turns.

    Returns:
        The results, ready for JSON; see `reports.records.StageTable`.

    Raises:
        SlimError: there is no network to measure, or a checkpoint is damaged.
    """
    samples = [checked.sample for checked in data.evaluation.samples]
    rows: dict[str, dict[str, Any]] = {}
    for name, network in _networks(config):
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)  # of an earlier run
        logger.info("%s: reading %d samples", network.title, len(samples))
        row: dict[str, Any] = {"name": name, "title": network.title, **_progress(network.stage, config)}
        try:
            row.update(network.measure(out))
            if "path" in row:
                row["score"] = score_file(
                    Path(row["path"]), folder_card(network.source).spec, samples, config.metric.name
                )
        except SlimError as error:
            row["note"] = str(error)
        rows[name] = row
    if not rows:
        raise SlimError("a report needs a training stage before it, or Global.pretrained")
    times = time_variants({name: row for name, row in rows.items() if "path" in row}, rounds)
    for name, row in rows.items():
        row.pop("path", None)
        row.pop("input", None)
        if name in times:
            row["ms"] = times[name]
    return {
        **provenance(command, PACKAGES),
        "metric": config.metric.name,
        "higher_is_better": HIGHER_IS_BETTER[config.metric.name],
        "samples": len(samples),
        "threads": usable_cores(),
        "rows": list(rows.values()),
    }


def _networks(config: Config) -> Iterator[tuple[str, _Network]]:
    """Yield the networks by name: teachers, the start, those of the stages, and an INT8 file that was calibrated.

    Of a quantized stage that is exported, it is the file in the bundle.
    """
    start = config.run.pretrained if not config.run.pretrained_layers else None
    teachers = config.teachers
    for number, teacher in enumerate(teachers, 1):
        title = "teacher" if len(teachers) == 1 else f"teacher {number}"
        if teacher == start:
            title += " and start"
        yield f"teacher_{number}", _Network(title, teacher, partial(_measure_any, teacher))
    if start and start not in teachers:
        yield "start", _Network("start", start, partial(measure, start))
    stages = list(config.stage_folders())
    for (stage, folder), (following, exported) in zip(stages, [*stages[1:], stages[-1]]):
        with_int8 = isinstance(following, ExportStage) and "onnx_int8" in following.formats
        int8 = partial(_measure_int8, exported)
        quantized = stage.stage == "quantize"
        if isinstance(stage, TrainStage):
            names = [TITLES.get(entry.name, entry.name) for entry in stage.techniques]
            title = folder.name + (f": {', '.join(names)}" if names else "")
            measured = int8 if quantized and with_int8 else partial(measure_stage, folder)
            yield folder.name, _Network(title, folder / BEST, measured, folder)
        if with_int8 and not quantized:
            yield exported.name, _Network(f"{exported.name}: INT8 by calibration", exported, int8)


def _measure_any(teacher: Path, out: Path) -> dict[str, Any]:
    if teacher.is_file():
        return {"file": teacher.name, "bytes": teacher.stat().st_size, "note": "an ONNX file, which is not measured"}
    return measure(teacher, out)


def _measure_int8(bundle: Path, out: Path) -> dict[str, Any]:
    return measure_file(bundle, INT8)


def _progress(stage: Path | None, config: Config) -> dict[str, Any]:
    """Return the steps and minutes of a training stage; nothing without one."""
    if stage is None:
        return {}
    done = training_progress(read_log(stage), config.step_batch)
    return {"steps": done["steps"], "minutes": done["training_minutes"]}
