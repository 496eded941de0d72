"""The table of a recipe's stages: what the teacher, the start and each stage's network weigh, cost and score."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Config, ExportStage, TrainStage
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import BEST
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.tasks.checks import folder_card
from ppocr_slim.tasks.task import Data
from ppocr_slim.training.footprint import measure, measure_int8, measure_stage, score_file, time_variants
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
        source: folder of a checkpoint or bundle, or a teacher's ONNX file.
        int8: the bundle whose INT8 file it is; None: the network is exported to be measured.
        stage: folder of the training stage that made it.
    """

    title: str
    source: Path
    int8: Path | None = None
    stage: Path | None = None


def stage_table(config: Config, folder: Path, data: Data, command: str, rounds: int) -> dict[str, Any]:
    """Measure the networks of the stages before a report.

    Args:
        config: of the run, with its Metric.
        folder: of the report; the exported files lie in it, and earlier ones are replaced.
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
    for name, network in _networks(config, folder):
        out = folder / "networks" / name
        shutil.rmtree(out, ignore_errors=True)  # of an earlier run
        logger.info("%s: reading %d samples", network.title, len(samples))
        row: dict[str, Any] = {"name": name, "title": network.title}
        try:
            row.update(_progress(network.stage, config), **_measured(network, out))
            if "path" in row:
                spec = folder_card(network.source).spec
                row["score"] = score_file(Path(row["path"]), spec, samples, config.metric.name)
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


def _networks(config: Config, report: Path) -> Iterator[tuple[str, _Network]]:
    """Yield the networks by name: teachers, the start, those of the stages before a report.

    A quantized network is the INT8 file of the bundle that it is exported to; of one that is not, a calibrated INT8
    file is a network of its own.
    """
    start = config.run.pretrained if not config.run.pretrained_layers else None
    teachers = config.teachers
    for number, teacher in enumerate(teachers, 1):
        title = "teacher" if len(teachers) == 1 else f"teacher {number}"
        yield f"teacher_{number}", _Network(title + " and start" * (teacher == start), teacher)
    if start and start not in teachers:
        yield "start", _Network("start", start)
    pending: _Network | None = None  # quantized, and not yet exported
    trained: _Network | None = None
    for stage, folder in config.stage_folders():
        if folder == report:
            break
        if isinstance(stage, TrainStage):
            if pending and pending.stage:
                yield pending.stage.name, pending
            pending = None
            names = [TITLES.get(entry.name, entry.name) for entry in stage.techniques]
            trained = _Network(folder.name + ": " * bool(names) + ", ".join(names), folder / BEST, None, folder)
            if stage.stage == "quantize":
                pending = trained
            else:
                yield folder.name, trained
        elif isinstance(stage, ExportStage) and "onnx_int8" in stage.formats:
            if pending and pending.stage:
                yield pending.stage.name, pending._replace(int8=folder)
                pending = None
            elif trained:
                yield folder.name, _Network(f"{folder.name}: INT8 by calibration", trained.source, folder)
    if pending and pending.stage:
        yield pending.stage.name, pending


def _measured(network: _Network, out: Path) -> dict[str, Any]:
    """Return the footprint of a network, see `footprint.measure`."""
    source = network.source
    if source.is_file():
        return {"file": source.name, "bytes": source.stat().st_size, "note": "an ONNX file: only its size is known"}
    if network.int8:
        return measure_int8(source, network.int8)
    return measure_stage(network.stage, out) if network.stage else measure(source, out)


def _progress(stage: Path | None, config: Config) -> dict[str, Any]:
    """Return the steps and minutes of a training stage; nothing without one."""
    if stage is None:
        return {}
    done = training_progress(read_log(stage), config.step_batch)
    return {"steps": done["steps"], "minutes": done["training_minutes"]}
